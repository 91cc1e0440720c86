// Package layout stores images in an OCI image layout. An OCI image layout is a directory
// that skopeo, podman, umoci, crane, oras and regctl read. containerd reads a tar of it.
// Several processes may use one directory at the same time.
//
// The one call most users need is [Open]. The [Layout] that it returns is a content.Store:
//
//	store, err := layout.Open("images", layout.Config{})
//	rt, err := transfer.New(transfer.Config{Store: store})
//
// # Promises
//
// Blobs:
//
//   - A blob gets its name, which is its digest, only when all its bytes are on disk. The
//     layout writes a blob under another name, syncs it, renames it, and then syncs the
//     directory. Three or more blobs that are ready together share one sync of their
//     bytes. If that sync takes long, because other programs write much to the same file
//     system, each blob gets its own sync for a while.
//   - An image of three or more blobs that arrive within a few milliseconds of one another,
//     its manifest among them, takes at most five syncs in a new directory, from Open to the
//     end of Tag.
//   - The caller of Ingest verifies the digest. Verify and Repair hash the blobs
//     themselves.
//   - One process at a time stores a blob. Other processes that need the blob wait, and
//     then find it.
//   - The bytes that have arrived of an incomplete blob survive Close, SIGKILL and a
//     restart. If the blob was written in order from its start, all of them survive. If
//     it was written at several places, SIGKILL loses about 128 KiB, or 1/32,768 of a
//     blob that is larger than 4 GiB. The layout does not verify these bytes: the next
//     caller that continues the blob hashes them, and calls Discard if they are wrong.
//     They may be wrong after a loss of power. An incomplete blob that was not written to
//     for a day is removed; see Config.PartialAge.
//   - The layout gives every blob that it stores the same modification time. A blob with
//     another modification time was changed or written by another program, so the layout
//     hashes it before it is used. A blob with wrong content or another size counts as
//     missing, and the next Ingest stores it again. A fault of the disk may change bits
//     of a blob and leave its modification time. Verify finds such a blob, and Repair
//     removes it.
//
// Names:
//
//   - The layout replaces index.json as a whole, under a lock that all processes respect.
//     A tag is on disk when Tag returns. Tags that wait for the lock are written together.
//   - index.json has at most 128 MiB, which is about 200,000 images. A Tag that would
//     make it larger fails, and the file stays as it was.
//
// The directory: the layout follows no symbolic link in the directory, and reads and
// writes nothing outside it.
//
// # Other tools
//
// Each canonical name has one entry in index.json. Two annotations of the entry,
// org.opencontainers.image.ref.name and io.containerd.image.name, hold the whole name.
// A bare tag would be ambiguous, because many images share one layout:
//
//	skopeo copy oci:images:docker.io/library/busybox:1.36 dir:busybox
//	umoci config --image images:docker.io/library/busybox:1.36 --tag mine --config.label a=b
//
// If only one image of an index is stored, because a pull fetched one platform, the entry
// is that image, which every tool can read. Lookup still returns the index. See
// Layout.Tag.
//
// Other tools may write into the layout, and the layout keeps what they write. The
// ref.name annotation is the name of an entry:
//
//   - Lookup finds a name with a registry in any spelling, for example
//     docker.io/busybox:1.36.
//   - Lookup does not find a name without a registry, such as "mine" above. The name is
//     listed and kept.
//   - ctr and Docker write only the tag as ref.name, and the whole name as
//     io.containerd.image.name. The layout takes the whole name as the name of such an
//     entry.
//
// If a tool changes an image in place, the name means the changed image until the name is
// pulled again. So give a derived image another name.
//
// Notes for each tool:
//
//   - skopeo and podman of Debian 12 (1.9, 4.3) and umoci 0.4 do not read a manifest in
//     Docker's format in an OCI layout: skopeo says "no descriptor found". Package
//     archive exports a file that "podman load -i", "skopeo copy
//     docker-archive:images.tar:NAME ...", "ctr images import" and "docker load" read.
//     For umoci, copy with skopeo from such a file to another layout. Newer versions of
//     skopeo and podman may read such an image in place.
//   - Do not unpack an image that you do not trust with "umoci unpack". Use package rootfs,
//     containerd or Docker instead.
//   - skopeo and umoci refuse a name that has "__" or "---" in the repository, because
//     the grammar for ref.name in the OCI image specification does not allow these
//     separators. ctr reads the other annotation and accepts such a name.
//   - regctl and other programs of regclient take the text after the last colon of a name
//     for the tag: to them, docker.io/x:v1 and docker.io/y:v1 are the same v1. Name
//     images by digest for these programs. When regctl writes, it removes blobs that
//     index.json does not lead to. Such blobs are those that a pull has fetched and not
//     yet tagged, and an index of which one image is stored. Lookup then returns that
//     image.
//   - The garbage collection of oras-go deletes the content of entries without a name,
//     and an index of which one image is stored. Do not run it on a layout that has such
//     entries. Layout.Prune keeps both.
//   - oras takes only what follows the last colon of "images:NAME" for the name. Use
//     images@DIGEST.
//
// The directory .pullkit holds the layout's own files: incomplete blobs, temporary files
// and locks. You may remove it when no process uses the layout.
//
// # Left out
//
// The package does not unpack layers and does not fetch anything. Package archive
// imports and exports images.
package layout
