# Read by the scripts beside it: make .venv, unless it is there.
if ! python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
  echo "This needs Python 3.11 or newer with its venv module: apt install python3-venv" >&2
  exit 1
fi
[ -x .venv/bin/pip ] || python3 -m venv .venv
