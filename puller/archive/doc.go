// Package archive carries images where no registry is: it writes the images of a
// content.Store into one file, and stores the images that such a file has.
//
// The one call most users need:
//
//	images, err := archive.Import(ctx, store, file, archive.Config{})
//
// The file is an OCI archive, which is a tar of an OCI image layout, or an archive of
// docker save, of any age. [Import] reads both, plain or packed with gzip or bzip2.
// [Export] writes a file that is both: podman load, docker load, ctr images import and
// skopeo's docker-archive and oci-archive read it, and so does Import.
//
// Store is whatever implements content.Store: a layout.Layout on disk, or one of your
// own. All bytes go through it, also those of files whose digest is known only at the
// archive's end, so that its limits and its promises about crashes hold for an Import.
//
// An archive is trusted as little as a registry. Every blob is hashed before it is
// committed. No path in the archive is used as a path on disk. Number, length and sum of
// names are limited, and so is what an archive can expand to without having the bytes. An
// error never quotes the content of a file that is not an archive, because it may be one
// with a password.
//
// # Left out
//
// Archives that are packed with zstd, xz and other formats than gzip and bzip2 are not
// read. The error names the format and the command that unpacks it. The package unpacks
// no layers and writes no files of its own.
package archive
