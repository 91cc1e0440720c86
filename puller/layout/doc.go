// Package layout keeps images in an OCI image layout. That is a directory which skopeo,
// umoci, crane and containerd read. Several processes may fill it at once.
//
// The one call most users need is [Open]. A [Layout] is a content.Store:
//
//	store, err := layout.Open("images", layout.Config{})
//	rt, err := transfer.New(transfer.Config{Store: store})
//
// # Promises
//
// Blobs:
//
//   - A blob has its name, which is its digest, only when it is complete and on disk.
//     It is written under another name, synced and renamed, and then the directory is
//     synced. Blobs that are ready at the same time share one sync.
//   - The caller of Ingest verifies the digest. Verify and Repair hash blobs themselves.
//   - One process at a time fetches a blob. Others wait, and find it when they need it.
//   - What has arrived of a blob outlives Close, SIGKILL and a restart. A blob that was
//     written from its beginning on loses nothing. One that was written in several
//     places loses about 128 KiB to SIGKILL, or one part in 32,768 if it is larger than
//     4 GiB. These bytes are not verified: the next caller that goes on with the blob
//     hashes them, and calls Discard if they are wrong, as they may be after a loss of
//     power. A blob that was not written to for a day is removed; see Config.
//   - Every blob has the same time of modification. One with another time was changed
//     or put there by another program, and is hashed before it is used. A blob that is
//     wrong, or has another size, is not used, and the next Ingest stores it again.
//     Verify finds bits that changed without a trace, and Repair removes such a blob.
//
// Names:
//
//   - index.json is replaced as a whole, under a lock that all processes respect. A tag
//     is on disk when Tag returns. Tags that wait for the lock are written together.
//   - index.json has at most 128 MiB, which is some 200,000 images. A Tag that would
//     make it larger fails, and the file stays as it was.
//
// The directory: no symbolic link in it is followed, and nothing outside it is read or
// written.
//
// # Other tools
//
// Each canonical name has one entry in index.json. Its annotations
// org.opencontainers.image.ref.name and io.containerd.image.name hold the whole name,
// because many images share one layout, and a bare tag would name several of them:
//
//	skopeo copy oci:images:docker.io/library/busybox:1.36 dir:busybox
//	umoci config --image images:docker.io/library/busybox:1.36 --tag mine --config.label a=b
//
// If only one platform's image of an index is stored, the entry is that image, which
// every tool can read. Lookup still returns the index. See Layout.Tag.
//
// Other tools may write into the layout, and what they write is kept. The ref.name
// annotation is the name of an entry:
//
//   - Lookup finds a name with a registry in any spelling, docker.io/busybox:1.36 as
//     well.
//   - A name without a registry, such as "mine" above, is listed and kept, but Lookup
//     does not find it.
//   - ctr and Docker write the tag alone as ref.name, and the whole name as
//     io.containerd.image.name. Such an entry has the whole name.
//
// An image that a tool changed in place is what its name means until the name is pulled
// again, so give a derived image a name of its own.
//
// What to know about each tool:
//
//   - skopeo and podman of Debian 12 (1.9, 4.3) and umoci 0.4 do not read a manifest in
//     Docker's format in an OCI layout: skopeo says "no descriptor found". Package
//     archive exports what they do read, with "podman load -i", "skopeo copy
//     docker-archive:images.tar:NAME ...", "ctr images import" and "docker load". For
//     umoci, let skopeo copy from such an archive to a layout of umoci's own. Newer
//     versions of skopeo and podman may read such an image in place.
//   - Do not unpack an image that you do not trust with "umoci unpack". Containerd and
//     Docker unpack such images safely.
//   - skopeo and umoci refuse a name that has "__" or "---" in the repository, because
//     the image specification's grammar for ref.name has no such separators. ctr, which
//     reads the other annotation, takes it.
//   - regctl and other programs of regclient take what follows the last colon of a name
//     for the tag: docker.io/x:v1 and docker.io/y:v1 are one v1 to them. Name images by
//     digest there. When regctl writes, it removes blobs that index.json does not lead
//     to: what a pull has fetched so far, and an index of which one image is stored.
//     Lookup then returns that image.
//   - The garbage collection of oras-go deletes the content of entries without a name.
//     Do not run it on a layout that has such entries. Layout.Prune keeps them.
//   - oras splits "images:NAME" at the first colon of NAME. Use images@DIGEST.
//
// The layout's own files are in the directory .pullkit: what has arrived of blobs,
// temporary files and locks. The directory may be removed when no pull is under way.
//
// # Left out
//
// The package does not unpack layers and does not fetch anything. Package archive
// imports and exports images.
package layout
