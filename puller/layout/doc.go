// Package layout keeps images in an OCI image layout: a directory that skopeo,
// umoci, crane and containerd read, and that several processes may fill at once.
//
// The one call most users need is [Open]; a [Layout] is a content.Store:
//
//	store, err := layout.Open("images")
//	rt := transfer.New(transfer.Config{Store: store})
//
// # Rules
//
// The sections are those of the Kubernetes page [Images]; a dash is a rule that it
// does not have.
//
//	rule                                           function                      section
//	an image that is present is found by its name  Layout.Lookup                 Image pull policy
//	a layer that is there is not stored again      Layout.Has                    Image pull policy
//	images carried to where no registry is         Layout.Import, Layout.Export  Pre-pulled images
//	what is there                                  Layout.List                   Pre-pulled images
//	an image goes, with the blobs only it used     Layout.Remove                 -
//	what no image uses goes                        Layout.Prune                  -
//	everything is hashed again                     Layout.Verify                 -
//	the blobs as files, for whoever unpacks them   Layout.FS                     -
//
// What a layout promises:
//
//   - A blob stands under its digest only whole: it is written beside, synced,
//     renamed, and the directory is synced. Blobs that are ready at the same
//     time share one sync. The caller of Ingest verifies the digest; Import and
//     Verify do so themselves.
//   - index.json is replaced as a whole, under a lock that all processes respect.
//     A tag is durable when Tag returns; tags that wait for the lock are
//     written together.
//   - One process at a time fetches a blob; the others wait and find it there.
//   - What there is of a blob outlives Close, SIGKILL and restarts. A blob that
//     was written from its beginning on loses nothing; one that was written in
//     several places has a list of them, and loses some 128 KiB to SIGKILL. It is
//     not verified: whoever goes on with it hashes it, and calls Discard if it is
//     wrong, as after a loss of power. What nobody wrote to for a day is swept.
//   - A blob has a fixed modification time. One with another time is hashed
//     before it is used. One that is then found wrong, or has another size, is
//     not used, and is stored anew by the next Ingest. Bits that rot in silence
//     are for Verify to find.
//   - No symbolic link within the directory is followed, and nothing is read or
//     written outside it.
//
// # Other tools
//
// Each canonical name has one entry in index.json. Its annotations
// org.opencontainers.image.ref.name and io.containerd.image.name hold the whole
// name, since many images share one layout and a bare tag would name several:
//
//	skopeo copy oci:images:docker.io/library/busybox:1.36 dir:busybox
//	umoci unpack --image images:docker.io/library/busybox:1.36 bundle
//
// An index of which one platform's image is stored is entered as that image,
// which every tool can read; Lookup still returns the index. See Layout.Tag.
// Tools that look at ref.name alone (skopeo, umoci) refuse names that have "__"
// or "---" in the repository: the image specification's grammar for that
// annotation has no such separators. ctr, which reads the other, takes them.
//
// Everything of the layout's own is in the directory .pullkit beside the blobs:
// partials, temporaries and locks. It may be removed when nobody pulls.
//
// # Left out
//
// The package unpacks no layers, and fetches nothing.
//
// [Images]: https://kubernetes.io/docs/concepts/containers/images/
package layout
