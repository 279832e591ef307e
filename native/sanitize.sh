#!/bin/sh
# The kernel's own tests, and any test given, under AddressSanitizer and UndefinedBehaviorSanitizer.
#
#     native/sanitize.sh [pytest arguments]        default: tests/native; PYTHON and BUILD may be set
#
# Builds into a folder of its own. The Python outside is not instrumented, so the runtime is preloaded, and
# what it never frees is not looked for; a copy of the package holds the instrumented module.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
build=${BUILD:-build/sanitize}
python=$(command -v "$python")

cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSKBUILD_PROJECT_NAME=adamantine \
  -DPython_EXECUTABLE="$python" -DADAMANTINE_SANITIZE=address,undefined >"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
cmake --build "$build" || exit 1

rm -rf "$build/package"
mkdir -p "$build/package"
cp -R src/adamantine "$build/package/"
rm -f "$build"/package/adamantine/_native*.so
cp "$build"/_native*.so "$build/package/adamantine/"

runtime=$(${CXX:-g++} -print-file-name=libasan.so)
support=$(${CXX:-g++} -print-file-name=libubsan.so)
# The editable install's finder comes before PYTHONPATH: -S leaves it out, and its folder is added again.
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
[ $# -gt 0 ] || set -- tests/native
exec env LD_PRELOAD="$runtime $support" \
  ASAN_OPTIONS=detect_leaks=0:abort_on_error=0:exitcode=99 \
  UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:exitcode=99 \
  PYTHONPATH="$build/package:$packages" \
  "$python" -S -m pytest -p no:cacheprovider -p no:xdist --confcutdir=tests -q "$@"
