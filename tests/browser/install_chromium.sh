#!/bin/sh
# The browser tests drive Chromium. Install Debian's or Ubuntu's package where we may; otherwise say how.
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done
if ! command -v apt-get >/dev/null 2>&1; then
    echo "No Chromium found; install it with your package manager. Browser tests are skipped." >&2
    exit 0
fi
if [ "$(id -u)" = 0 ]; then run=""; elif sudo -n true 2>/dev/null; then run="sudo -n"; else
    echo "No Chromium found; browser tests are skipped. To run them: sudo apt-get install chromium" >&2
    exit 0
fi
echo "Installing Chromium for the browser tests ..."
export DEBIAN_FRONTEND=noninteractive
$run apt-get update -qq && $run apt-get install -y -qq --no-install-recommends chromium >/dev/null
