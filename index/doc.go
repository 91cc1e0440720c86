// Package index chooses the manifest for a platform from an OCI index or a Docker
// manifest list.
//
// The one call most users need is [Selector.Select], with [Host] for the platform of the machine:
//
//	doc, err := index.Parse(contentType, body)
//	choice, err := index.Selector{}.Select(*doc.Index, index.Host())
//
// [Parse] reads a document strictly: it refuses what two parsers could read differently.
// [Selector.Candidates] yields all entries that fit, best first, and [Selector.Explain]
// says for each entry why it was chosen or not. [Resolver.Resolve] follows indexes within
// indexes down to the manifest.
//
// # Platforms
//
// [Normalize] spells a platform as Go does (x86_64 is amd64, aarch64 is arm64), with the
// rules of containerd's platforms package. It is applied to the requested platform and to
// the platforms of the entries.
//
// A machine runs more than its own variant. [Fallbacks] lists what it runs, best first, as
// containerd's platforms.Only does: amd64/v3 takes v3, v2, plain amd64, then 386; arm/v7
// takes v7, v6, v5; arm64/v9.2 takes v9.2 down to v9, v8.7 down to v8, then 32-bit arm v8
// to v5, which a core without 32-bit mode cannot run. [Choice].Exact is false if such a
// fallback was taken. A [Selector] with Strict takes no fallback. Kubernetes nodes whose
// containerd pulls by its transfer service choose in this way, and ask for no variant on
// amd64. [Host] returns one there, so clear it for Strict: an entry without variant does not
// fit amd64/v3 exactly. CRI-O takes no other architecture either, but earlier variants of
// arm, and an entry without variant.
//
// Two rules differ from containerd's. An unknown variant matches itself, and on amd64,
// ppc64, ppc64le, riscv64, s390x and loong64 it also matches the entry without variant.
// Variants of POWER and RISC-V have fallbacks: power11 to power8, and rva23u64, rva22u64,
// rva20u64.
//
// # Entries
//
// A malformed entry is an error only if it is chosen. These entries are never chosen:
// unknown media types, attestations, entries whose OS or architecture is missing or
// "unknown", and entries without platform whose artifactType is not that of an image
// config. An entry without platform, or with an empty one, is the last resort:
// [Choice].CheckConfig then says that the image's config must be compared.
//
// The os.features of an entry must be among those of the platform. An entry with more of
// these features is better. win32k does not count, because every Windows has it. The
// os.version matters only on Windows: a host before Windows Server 2022 (build 20348) runs
// only its own build, and a later host runs builds from 20348 to its own. The same version is
// best, then the highest version. An entry without a version fits every host. If the platform
// has no version, versions are not compared. Of entries that are equally good the first is
// taken, so a zstd copy that is listed second is not taken.
//
// # Left out
//
// The package fetches nothing itself: the caller gives [Resolver] a function that does.
// Only [Host] reads the machine. If no index leads to a manifest, the platform in the
// manifest's config is not compared, because publishers often write a wrong one.
package index
