// A button that stops a run while its cell is still busy: the page asks the server to interrupt the kernel, because a
// message to the kernel itself would wait until the cell has ended. The kernel takes the interrupt as a polite request.

function serverSettings() {
  const node = document.getElementById("jupyter-config-data");
  return node ? JSON.parse(node.textContent) : {};
}

async function interrupt(kernel) {
  const settings = serverSettings();
  const base = settings.baseUrl || "/";
  const cookie = document.cookie.match(/(?:^|;\s*)_xsrf=([^;]+)/);
  const headers = {};
  if (settings.token) headers.Authorization = `token ${settings.token}`;
  if (cookie) headers["X-XSRFToken"] = cookie[1];
  const address = `${base}api/kernels/${encodeURIComponent(kernel)}/interrupt`;
  const answer = await fetch(address, { method: "POST", headers, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
}

function render({ model, el }) {
  const button = document.createElement("button");
  button.className = "jupyter-button widget-button obdb-stop";
  button.title = "End after this step and keep the best model";
  const show = () => {
    button.textContent = model.get("label");
    button.disabled = !model.get("enabled");
  };
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.textContent = "Stopping ...";
    model.set("asked", model.get("asked") + 1); // for front ends that deliver it while a cell runs
    model.save_changes();
    try {
      await interrupt(model.get("kernel"));
    } catch (error) {
      button.textContent = "Use Kernel > Interrupt";
      button.title = `The page could not reach the server: ${error.message}`;
    }
  });
  model.on("change:label", show);
  model.on("change:enabled", show);
  show();
  el.appendChild(button);
}

export default { render };
