#!/usr/bin/env bash
# When regctl 0.11.7 adds a tag to an OCI layout, it also removes every blob to which no entry
# of index.json leads.
#
# The blobs that a running pull has fetched so far are such blobs, and so is an index that only
# an annotation names. The script makes a layout with such a blob. Then it adds a name by
# `regctl image copy ocidir://layout:v1 ocidir://layout:v2`, which copies no blob. After the
# command the blob is gone. regctl exits with 0 and does not report the removal. A command that
# only reads (`regctl manifest get`) does not remove blobs.
#
# The script needs Go and its module proxy. It exits with 0 as long as regctl behaves
# like this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
export HOME=$dir
GOPATH=$(go env GOPATH) GOBIN=$dir go install github.com/regclient/regclient/cmd/regctl@v0.11.7 >log 2>&1 || { cat log; exit 1; }

blob() { # stores standard input under its digest and prints "digest size"
	cat >blob.tmp
	sum=$(sha256sum blob.tmp | cut -d' ' -f1)
	size=$(wc -c <blob.tmp)
	mv blob.tmp "layout/blobs/sha256/$sum"
	echo "sha256:$sum $size"
}
mkdir -p layout/blobs/sha256
printf '{"imageLayoutVersion":"1.0.0"}' >layout/oci-layout
read -r config n < <(printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}' | blob)
type=application/vnd.oci.image.manifest.v1+json
read -r manifest m < <(printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},"layers":[]}' "$type" "$config" "$n" | blob)
printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s","digest":"%s","size":%d,"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}' "$type" "$manifest" "$m" >layout/index.json
read -r other _ < <(printf 'a layer of an image that is being pulled' | blob)

present() { [ -e "layout/blobs/sha256/${other#sha256:}" ] && echo yes || echo no; }
{
	./regctl manifest get ocidir://layout:v1 >/dev/null
	echo "after a read: blob present: $(present)"
	./regctl image copy ocidir://layout:v1 ocidir://layout:v2 2>&1
	echo "after a copy of the tag: exit status $?, blob present: $(present)"
	grep -o '"org.opencontainers.image.ref.name":"[^"]*"' layout/index.json
} >got
cat >want <<'EOF'
after a read: blob present: yes
ocidir://layout:v2
after a copy of the tag: exit status 0, blob present: no
"org.opencontainers.image.ref.name":"v1"
"org.opencontainers.image.ref.name":"v2"
EOF
diff -u want got
cat got
