// Package archive moves images without a registry. It writes images of a content.Store
// into one file, and it stores the images of such a file.
//
// The one call most users need:
//
//	images, err := archive.Import(ctx, store, file, archive.Config{})
//
// The file is an OCI archive, which is a tar of an OCI image layout, or an archive of any
// version of docker save. [Import] reads both, plain or compressed with gzip or bzip2.
// [Export] writes a file that is both. These programs read it: podman load, ctr images
// import, and skopeo with docker-archive and with oci-archive. It has what docker load reads,
// and Import reads it too.
//
// The Store is any content.Store: a layout.Layout on disk, or the caller's own. Import
// writes the content of images to the Store and to no other place. This includes files
// whose digest is known only at the end of the archive. So the limits of the Store, and
// its promises about crashes, hold for an Import.
//
// Import trusts an archive no more than a registry. It hashes every blob before it commits
// the blob. It does not use a path in the archive as a path on disk. It limits the number
// of names, the length of each name and the length of all names. It also limits how many
// bytes the holes of sparse files may have, because the archive does not contain these
// bytes. An error about a file that is not an archive never quotes printable text of the
// file, because the file may hold a password.
//
// # Left out
//
// Import does not read archives that are compressed with zstd, xz or any format other than
// gzip and bzip2. If the error recognizes the format, it names it and the command that
// unpacks it. The package does not unpack layers, and writes files only through the Store.
package archive
