// Package index chooses the manifest for a platform from an OCI index or a
// Docker manifest list.
//
// The one call most users need is [Select], with [Host] where the platform is the
// machine's own:
//
//	doc, err := index.Parse(contentType, body)
//	choice, err := index.Select(*doc.Index, index.Host())
//
// # Rules
//
// The sections are those of the Kubernetes page [Images]; a dash is a rule that it
// does not have.
//
//	rule                                          function          section
//	one name, the right binary for each machine   Select            Multi-architecture images
//	the machine's platform, with its variant      Host              Multi-architecture images
//	what else a machine runs, best first          Fallbacks         -
//	its own variant, or nothing                   Selector.Strict   -
//	x86_64 is amd64, aarch64 is arm64, and so on  Normalize         -
//	a document that can be read in one way alone  Parse             -
//	indexes in indexes, down to the manifest      Selector.Resolve  -
//	for each entry, why it was chosen or not      Selector.Explain  -
//
// [Normalize] does what containerd's platforms package does, to both sides. The
// ladder ([Fallbacks]) is containerd's platforms.Only: amd64/v3 takes v3, v2,
// plain, then 386; arm/v7 takes v7, v6, v5; arm64/v9.2 takes v9.2 down to v9, v8.7
// down to v8, then 32-bit v8 to v5, which an AArch64-only core cannot run.
// [Choice].Exact is false where such a fallback was taken. A [Selector] with
// Strict set takes none, as a Kubernetes node does whose containerd pulls by its
// transfer service, or that runs CRI-O.
//
// Beyond containerd's: a variant nobody knows still matches itself, and on
// amd64, ppc64, ppc64le, riscv64, s390x and loong64 then the entry without
// variant; POWER and RISC-V variants have chains (power11 to power8, rva23u64,
// rva22u64, rva20u64), which no other client does.
//
// Entries are never an error but where they are chosen. Passed over are: unknown
// media types, attestations, OS or architecture unknown or missing, and entries
// without platform whose artifactType is no image config. Entries without
// platform, or with an empty one, are the last resort, and [Choice].CheckConfig
// says that the image's config must be compared.
//
// os.features of an entry must be among those of the platform (win32k is on every
// Windows), and more of them are better. os.version counts on Windows alone: a
// host before Windows Server 2022 (20348) runs its own build only, a later one
// builds from 20348 to its own; the very version is best, then the highest
// revision. Of entries that are equally good the first is taken: a zstd twin
// listed second stays second.
//
// # Left out
//
// Nothing is fetched, but by the function that [Resolver] is given, and
// nothing but [Host] reads the machine. The config of a plain manifest is not
// judged: its platform is the publisher's word, and often wrong.
//
// [Images]: https://kubernetes.io/docs/concepts/containers/images/
package index
