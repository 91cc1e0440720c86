#!/usr/bin/env bash
# mdltool, the packing tool of Docker's model-runner 1.0.10, writes ModelPack's annotation
# org.cncf.model.filepath for each layer. The ModelPack specification says that it is the
# path of the file or directory in the model.
#
# For a file the annotation has the name of the file. For a directory that is packed with
# --dir-tar, and for the archive of the configuration files, it has the name of the temporary
# file in which mdltool made the tar, such as dir-tar-965624628.tar. Only the names in the tar
# say where the files belong. A reader that unpacks the tar below the path in the annotation
# puts the files into a wrong directory. The names of temporary files are random, so two
# packages of the same directory have the same layers and different manifest digests.
#
# The script needs Go and its module proxy. It exits with 0 as long as mdltool behaves like
# this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
mkdir src && cd src
go mod init finding 2>/dev/null
go get github.com/docker/model-runner/cmd/mdltool@v1.0.10 2>/dev/null
go build -o ../mdltool github.com/docker/model-runner/cmd/mdltool
cd ..
mkdir -p model/adapters
# One safetensors file: the length of the header, the header, and eight bytes of weights.
header='{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
# shellcheck disable=SC2059 # the format has the length as an octal number
{ printf "\\$(printf %o "${#header}")\\0\\0\\0\\0\\0\\0\\0"; printf '%s12345678' "$header"; } >model/model.safetensors
echo '{}' >model/config.json
echo adapter >model/adapters/a.bin
for i in 1 2; do
	./mdltool --store-path store package --file "$i.tar" --dir-tar adapters model >"$i.log" 2>&1 || { cat "$i.log"; exit 1; }
	mkdir "$i"
	tar -xf "$i.tar" -C "$i"
	tar -tf "$i.tar" | while read -r name; do # the manifest is one of the JSON files
		grep -ls '"application/vnd.docker.ai.dir.tar"' "$i/$name" || true
	done | head -n 1 >"$i.manifest"
done
paths() { grep -o '"org.cncf.model.filepath":"[^"]*"' "$(cat "$1.manifest")"; }
layers() { grep -o '"digest":"[^"]*"' "$(cat "$1.manifest")" | tail -n +2; }
echo "Paths of the first package:"
paths 1
echo "Paths of the second package of the same directory:"
paths 2
paths 1 | grep -q '"dir-tar-[0-9]*\.tar"' && paths 1 | grep -q '"vllm-config-[0-9]*\.tar"' &&
	[ "$(layers 1)" = "$(layers 2)" ] && [ "$(paths 1)" != "$(paths 2)" ] ||
	{ echo "changed: the paths are not those of temporary files"; exit 1; }
echo "As described: the layers are the same, and the path of a directory is a random name."
