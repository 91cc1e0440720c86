// Package rootfs makes the root file system of an image out of its layers, for programs that
// run or inspect the image without a container runtime's own store. It is a module of its
// own, because it needs libraries that other users of pullkit do not need.
//
// The one call most users need is [Unpack]:
//
//	result, err := rootfs.Unpack(ctx, store, manifest, "busybox", rootfs.Config{})
//
// store is any content.Store, and manifest the descriptor that its Lookup returns for the
// name of an image that was pulled. The root file system is the directory busybox/rootfs, so
// that busybox can become the bundle of an OCI runtime. [Pull] does the same while layers are
// still fetched.
//
// # What the root file system has
//
// The layers are applied by package archive of containerd, one after the other: whiteouts,
// opaque directories, hard links to files of lower layers, and names that lead through links
// of lower layers, which are resolved in the root file system as in a container. The result is
// equal, file by file, to what podman makes, and to what containerd makes with a snapshotter
// that copies directories. (With overlayfs, containerd applies a layer to an empty directory.
// An image with a hard link to a file of a lower layer cannot be unpacked there, and other
// images give another result.)
//
//   - As root, each file has the owner, mode, time and extended attributes of the image, and
//     set-user-ID and set-group-ID bits, which Result.SetID counts. Extended attributes whose
//     names begin with "trusted." are left out, and those that the file system does not have.
//   - Any other user owns all files. Extended attributes and set-ID bits are left out, and each
//     directory has the mode bits u+rwx. Dropped counts what was left out.
//   - Devices are made only with Config.Devices, and only by root outside of a user namespace.
//     Otherwise, what a lower layer has in the place of a device is removed nevertheless. Named
//     pipes are made.
//   - Times before 1970 or after 2262 become 1970. On a system of 32 bits those after 2038 do
//     too.
//   - A sparse file has zeros in place of its holes.
//   - Directories that no layer lists have the mode 0755, whatever the umask is, and belong to
//     the caller. The directory rootfs itself has these too, also if a layer lists it.
//
// A layer is compressed with gzip or zstd, or not at all. Its bytes say which, and not its
// media type. A window of zstd is at most 128 MiB, for each layer that is decompressed at a time.
//
// # What is refused
//
// What the author of an image wrote decides names below the directory rootfs, and nothing
// else. Names with "..", absolute names, and links that lead out of the root file system are
// resolved in it, so that nothing outside is read, written or removed. Each of these is an
// error, after which nothing is there:
//
//   - a config that is not an image's, an image for Windows, another number of diff IDs than of
//     layers, and a layer that is encrypted or whose media type is not that of a layer;
//   - a layer whose tar does not have the diff ID of the config;
//   - a tar or a compression that is damaged or cut off, bytes other than gzip behind the end of
//     gzip, an entry of an unknown type, a whiteout whose name no file can have, such as
//     .wh.., a path that leads through a file, and a hard link to a file that is not there,
//     such as a device that was left out;
//   - more entries, bytes or compression than the limits of Config allow, holes of sparse files
//     included.
//
// # What holds
//
//   - The directory appears whole and with the mode 0700, so that no other user can run its
//     set-user-ID programs. It is filled in another directory next to it, .NAME.pullkit,
//     under a name that has the mode 0700 too, synced, and renamed.
//   - The bytes are those of the image: each layer's tar is hashed while it is applied, and
//     compared with the diff ID before the directory appears. The config was compared with the
//     manifest. What the Store has is hashed only once in this way, so a Store must have
//     verified a blob's own digest, as package transfer does.
//   - Layers are decompressed and hashed in parallel, while the layer below them is applied: one
//     for each processor, at least two and at most eight, the layer that is applied included.
//     What does not fit into memory goes into files without a name next to the root file
//     system, but only while a processor would be idle otherwise. So each such layer takes
//     about 2 MiB of memory, and with zstd also its window. The library also remembers the path
//     of each entry of the layer that it applies, and Config.MaxFiles limits them.
//   - A call that was killed leaves .NAME.pullkit. The next call removes it and begins with the
//     first layer, because a layer that is applied to a half of itself can give another result.
//     The blobs in the Store are not fetched again.
//   - If several processes make one directory at the same time, one makes it, and the others
//     wait and then use it.
//   - A second call makes nothing. The file .pullkit in the directory says which image it is
//     of. The call does not look at the root file system, because a container that runs in it
//     changes it.
//   - A directory of another image or of something else, an empty one included, is an error and
//     stays as it is.
//
// The directory that NAME is in must not be one where other users can make files, such as
// /tmp.
//
// # Why this library
//
// containerd's archive and moby's go-archive both keep hostile layers inside and resolve
// absolute links in the root file system. containerd's takes a filter for each entry, which is
// where this package leaves out devices and set-ID bits, and counts files and bytes. For
// go-archive the tar would have to be rewritten before it is applied, and two readers of one
// tar can understand it differently. A program on Linux gets fewer modules with containerd's (8
// instead of the 9 of go-archive 0.3.3). Its price is the version of Go that containerd asks
// for, which is why only this module asks for it.
//
// # Left out
//
// The package does not mount, does not make overlay file systems, and does not map user IDs. It
// does not write the configuration of a runtime. On Windows it returns errors.ErrUnsupported.
package rootfs
