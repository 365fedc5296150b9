#!/bin/sh
# Does a native program start where glibc is no newer than the given version? Amazon Linux 2023 has 2.34.
# Usage: check-glibc.sh PROGRAM VERSION
set -eu
if ! command -v objdump >/dev/null; then
    echo "objdump not found in PATH, which tells what a program needs of glibc. Install it: the package binutils." >&2
    exit 1
fi
newest=$(objdump -T "$1" | grep -o 'GLIBC_[0-9][0-9.]*' | sort -u -V | tail -n 1)
if [ -z "$newest" ]; then
    echo "$1 names no symbol of glibc at all: it is not a dynamically linked program for Linux with glibc." >&2
    exit 1
fi
if [ "$(printf '%s\nGLIBC_%s\n' "$newest" "$2" | sort -V | tail -n 1)" != "GLIBC_$2" ]; then
    echo "$1 needs $newest, and Lambda's operating system has $2: publish it on an older system, such as Amazon Linux 2023." >&2
    exit 1
fi
echo "$1 needs $newest; $2 is there"
