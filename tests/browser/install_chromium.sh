#!/bin/sh
# The browser tests drive Chromium. Install Debian's or Ubuntu's package where we may; otherwise say how.
# The tests start OBDB_CHROMIUM or /usr/bin/chromium and no other, so look for that one alone.
chromium="${OBDB_CHROMIUM:-/usr/bin/chromium}"
command -v "$chromium" >/dev/null 2>&1 && exit 0
if [ "$chromium" != /usr/bin/chromium ]; then
    echo "OBDB_CHROMIUM names $chromium, which is not there. Browser tests are skipped." >&2
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "No /usr/bin/chromium; install it with your package manager, or set OBDB_CHROMIUM to another one. Browser tests are skipped." >&2
    exit 0
fi
if [ "$(id -u)" = 0 ]; then run=""; elif sudo -n true 2>/dev/null; then run="sudo -n"; else
    echo "No /usr/bin/chromium; browser tests are skipped. To run them: sudo apt-get install chromium, or set OBDB_CHROMIUM" >&2
    exit 0
fi
echo "Installing Chromium for the browser tests ..."
export DEBIAN_FRONTEND=noninteractive
$run apt-get update -qq && $run apt-get install -y -qq --no-install-recommends chromium >/dev/null
