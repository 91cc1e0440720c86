// Package layout keeps images in an OCI image layout: a directory that skopeo,
// umoci, crane and containerd read, and that several processes may fill at once.
//
// The one call most users need is [Open]; a [Layout] is a content.Store:
//
//	store, err := layout.Open("images")
//	rt := transfer.New(transfer.Config{Store: store})
//
// # Promises
//
// What a layout promises:
//
//   - A blob stands under its digest only whole: it is written beside, synced,
//     renamed, and the directory is synced. Blobs that are ready at the same
//     time share one sync. The caller of Ingest verifies the digest; Import,
//     Verify and Repair do so themselves.
//   - index.json is replaced as a whole, under a lock that all processes respect.
//     A tag is durable when Tag returns; tags that wait for the lock are
//     written together.
//   - One process at a time fetches a blob; the others wait and find it there.
//   - What there is of a blob outlives Close, SIGKILL and restarts. A blob that
//     was written from its beginning on loses nothing; one that was written in
//     several places has a list of them, and loses some 128 KiB to SIGKILL, of more than 4 GiB one part in 32,768.
//     It is not verified: whoever goes on with it hashes it, and calls Discard if it is
//     wrong, as after a loss of power. What nobody wrote to for a day is swept.
//   - A blob has a fixed modification time. One with another time is hashed
//     before it is used. One that is then found wrong, or has another size, is
//     not used, and is stored anew by the next Ingest. Bits that rot in silence
//     are for Verify to find and for Repair to remove.
//   - index.json has at most 128 MiB, some 200,000 images. The Tag that would
//     make it larger fails, and the file stays as it was.
//   - No symbolic link within the directory is followed, and nothing is read or
//     written outside it.
//
// # Other tools
//
// Each canonical name has one entry in index.json. Its annotations
// org.opencontainers.image.ref.name and io.containerd.image.name hold the whole
// name, because many images share one layout and a bare tag would name several:
//
//	skopeo copy oci:images:docker.io/library/busybox:1.36 dir:busybox
//	umoci config --image images:docker.io/library/busybox:1.36 --tag mine --config.label a=b
//
// An index of which one platform's image is stored is entered as that image,
// which every tool can read; Lookup still returns the index. See Layout.Tag.
//
// Other tools may write into the layout, and what they write is kept. The ref.name
// annotation is the name of an entry. A name with a registry is found by Lookup in
// any spelling, docker.io/busybox:1.36 as well. A name without a registry, such as
// "mine" above, is listed and kept, and no Lookup finds it. An entry as ctr and
// Docker write them, with the tag alone as ref.name beside a whole
// io.containerd.image.name, has that whole name. An image that was changed in
// place is what its name stands for until the name is pulled again; give what you
// derive a name of its own.
//
// What single tools do:
//
//   - skopeo and podman of Debian 12 (1.9, 4.3) and umoci 0.4 refuse an image with a
//     manifest in Docker's format, which is not OCI's, in an OCI layout: skopeo says
//     "no descriptor found". Layout.Export writes an archive that they read:
//     "podman load -i", "skopeo copy docker-archive:images.tar:NAME ...",
//     "ctr images import" and "docker load". For umoci, let skopeo copy from that
//     archive to a layout of umoci's own. Newer versions of skopeo and podman may
//     read such an image in place.
//   - Unpack no image that you do not trust with "umoci unpack". Containerd and
//     Docker unpack such images safely.
//   - skopeo and umoci refuse names that have "__" or "---" in the repository: the
//     image specification's grammar for ref.name has no such separators. ctr, which
//     reads the other annotation, takes them.
//   - regctl and other programs of regclient take what follows a name's last colon
//     for the tag: docker.io/x:v1 and docker.io/y:v1 are one v1 to them. Name images
//     by digest there. When it writes, regctl removes blobs that index.json does not
//     lead to: what a pull has fetched so far, and indexes of which one image is
//     stored. Lookup returns that image then.
//   - The garbage collection of oras-go deletes the content of entries without a
//     name. Do not run it on a layout that has such entries; Layout.Prune keeps them.
//   - oras splits "images:NAME" at the first colon of NAME: use images@DIGEST.
//
// Everything of the layout's own is in the directory .pullkit beside the blobs:
// partials, temporaries and locks. It may be removed when nobody pulls.
//
// # Left out
//
// The package unpacks no layers, and fetches nothing.
package layout
