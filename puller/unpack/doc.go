// Package unpack writes the files of an artifact into a directory. An artifact is what was
// pushed as files and not as the file system of a container, such as a model for a model
// server, a Helm chart or a set of policies.
//
// The one call most users need is [Files]:
//
//	files, err := unpack.Files(ctx, store, manifest, "models/llama", unpack.Config{})
//
// store is any content.Store, and manifest the descriptor that its Lookup returns for the
// name of an artifact that was pulled. The directory models/llama is made by the call, or
// is one that an earlier call has made of the same artifact.
//
// # Which files
//
// A layer is a tar or one file. A tar is unpacked into the directory by the names in it. A
// layer is a tar if
//
//   - the annotation io.deis.oras.content.unpack is "true", which oras writes for a
//     directory (any other value of this annotation makes the layer a file); or
//   - its media type names a tar, with or without a compression behind it, such as
//     application/vnd.cncf.model.weight.v1.tar (ModelPack),
//     application/vnd.kitops.modelkit.model.v1.tar+gzip (KitOps),
//     application/vnd.docker.ai.dir.tar (Docker's model-runner) or
//     application/vnd.cncf.helm.chart.content.v1.tar+gzip (Helm). One case is a file
//     nevertheless: a layer with a title and with the media type of an image's layer,
//     because oras gives that media type to every file for which its user names none.
//
// The media types application/x-tar, application/x-gtar and application/x-tgz name a tar too,
// and so do those that end in .tar.gz. The bytes of a tar say whether it is compressed with
// gzip. If the annotation
// io.deis.oras.content.digest is present, it is the digest of the tar without its
// compression, and is checked.
//
// The name of a file is the first of these that the layer has:
//
//   - the annotation org.cncf.model.filepath, of the ModelPack specification, which Docker's
//     model-runner writes too, or org.cnai.model.filepath, its former name;
//   - the annotation org.opencontainers.image.title, which oras writes;
//   - the member "name" of the descriptor, which Ollama writes for tensors. It is read only if
//     the media type begins with application/vnd.ollama.image.;
//   - what Config.Name returns;
//   - a name by its media type, of the table below. If several layers without a name have
//     the same media type, they are numbered in their order, as Docker's model
//     specification says of shards: model-00001-of-00002.gguf.
//
// A layer with none of these is an error.
//
//	application/vnd.docker.ai.      gguf.v3                model.gguf
//	                                gguf.v3.lora           adapter.gguf
//	                                gguf.v3.mmproj, mmproj model.mmproj
//	                                safetensors            model.safetensors
//	                                dduf                   model.dduf
//	                                chat.template.jinja    template.jinja
//	                                license                LICENSE
//	application/vnd.ollama.image.   model                  model.gguf
//	                                adapter                adapter.gguf
//	                                projector              projector.gguf
//	                                template               template
//	                                prompt                 prompt
//	                                system                 system
//	                                params                 params.json
//	                                messages               messages.json
//	                                license                LICENSE
//	application/vnd.cncf.helm.chart.provenance.v1.prov     chart.prov
//
// The config of an artifact is not a file of it. A layer with the media type
// application/vnd.oci.empty.v1+json means that there is no content. It is skipped.
//
// # What is refused
//
// What the author of an artifact wrote decides names within the directory, and nothing
// else. Each of these is an error, after which nothing is there:
//
//   - a name that is absolute, has an element "..", a backslash, a control character or
//     bytes that are not UTF-8, or more than 4096 bytes or 100 elements; a name that the
//     system cannot write, such as NUL and those that end in a dot or a space on Windows; the
//     name .pullkit, and names below it;
//   - two layers, or two entries of tars, with one name, unless both are directories; two
//     names that the file system takes for one, such as A and a on Windows;
//   - a device, a named pipe, or an entry of an unknown type;
//   - a symbolic link that is absolute, that leads out of the directory, alone or together
//     with other links, or that leads to nothing; a hard link to anything but a file that
//     comes before it; a file behind a symbolic link;
//   - a whiteout (.wh.NAME), or a name below one, in a layer with the media type of an image's
//     layer, because the file system of an image is more than the files of its layers;
//   - more files, bytes or compression than the limits of Config allow, holes of sparse files
//     included, or names of more than 32 MiB together;
//   - zstd, xz and other compressions than gzip; a tar that is damaged, or that is cut off, so
//     that not even one block of zeros is at its end; anything but zeros behind its end, or
//     behind the end of gzip.
//
// Records of a global header of PAX, such as a path for all entries, are not used. git
// archive writes such a header for a comment.
//
// A file has the mode 0644, or 0755 if the tar says that its owner may execute it. A
// directory has 0755. The umask applies. Other bits, such as set-user-ID, and owners, times
// and extended attributes are not taken over. If the directory that NAME is in has the bit
// set-group-ID, the system gives it to new directories too.
//
// # What holds
//
//   - The directory appears whole, with all bytes on disk. It is filled under another name
//     next to it, .NAME.pullkit, synced, and renamed.
//   - The bytes are those of the digests. Each blob is hashed while it is written, so a blob
//     that was damaged in the Store is found.
//   - A call that was killed, or whose context has ended, is continued by the next call with
//     the same directory and artifact. That call compares what it finds with the blobs, and
//     writes where they differ. A call for another artifact, or with another SubPath, Link or
//     names of files, removes them first. Until a call has made the directory, or has failed
//     while it made it, the files of the killed call take up room in .NAME.pullkit. After
//     that, .NAME.pullkit is renamed to .NAME.pullkit.old and removed. If others have put
//     files into one of these, it stays as it is. A call that has to make the directory
//     returns an error if they are in .NAME.pullkit.
//   - If several processes make one directory at the same time, one makes it, and the others
//     wait and then use it.
//   - A second call writes nothing. The file .pullkit in the directory says which artifact
//     it is of, with type, size, time and digest of each file. The call compares names,
//     types, sizes, times and targets of links, and hashes each file whose time differs. If
//     a file was changed, added or removed, the error names the file and, unless it was
//     added, its layer, and everything stays as it is. Config.Verify hashes all files. A
//     process that can write to the directory can also write the file .pullkit, so the
//     check finds accidents, not attacks.
//   - A directory of another artifact or of something else, an empty one included, is an
//     error and stays as it is.
//
// The directory that NAME is in must not be one where other users can make files, such as
// /tmp.
//
// # Room on disk
//
// Where the file system can clone files, as Btrfs, XFS and bcachefs on Linux can, a file
// shares its bytes with the blob of the Store until one of them is changed. Elsewhere it is
// a copy, and the artifact takes up room twice. Config.Link makes hard links of layers that
// are one file. They take up no room and are read-only. A process of root can write to a
// read-only file, which changes the Store too. Clones and hard links need a Store that is a
// [Directory], such as layout.Layout.
//
// # Left out
//
// The package does not make the file system of an image out of its layers, as package rootfs
// does, and does not read zstd. It does not write the config, such as the Kitfile of KitOps.
// Old versions of KitOps wrote tars whose names are relative to a path in the Kitfile; they
// are unpacked by the names in them.
package unpack
