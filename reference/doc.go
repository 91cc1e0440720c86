// Package reference parses and prints the names of container images with the
// meaning Kubernetes gives them.
//
// The one call most users need is [Parse]:
//
//	ref, err := reference.Parse("registry.k8s.io/pause:3.10")
//
// A [Reference] is a small comparable value: two spellings of one image are equal,
// so it can be a map key. Parsing a name that is accepted allocates no memory. A name
// that is refused gives a [ParseError], which says which byte is wrong and why, and for most
// faults what to write instead.
//
// A name without a registry means Docker Hub, and one without tag and digest means the tag
// latest. [ParseWritten] also says which parts were written. [Parser] fills in other
// defaults. Methods such as [Reference.WithDigest] change one part; each returns a new
// Reference.
//
// # Grammar
//
//	name       = [ registry "/" ] repository [ ":" tag ] [ "@" digest ]
//	registry   = ( label { "." label } | "[" hex-or-colon { hex-or-colon } "]" ) [ ":" digits ]
//	label      = letters and digits of either case, dashes inside
//	repository = component { "/" component }                     at most 255 bytes
//	component  = run { ( "." | "_" | "__" | dashes ) run }
//	run        = lower-case letters and digits
//	tag        = letter, digit or "_", then those and "." "-"     at most 128 bytes
//	digest     = "sha256:" 64 | "sha384:" 96 | "sha512:" 128 lower-case hex digits
//
// The text before the first slash is a registry exactly when it is "localhost" or has
// a dot, a colon or an upper-case letter. The host index.docker.io is docker.io. On
// docker.io a repository of one component is below library, and the 255 bytes include that
// prefix. A name with a digest and no tag gets no tag. A name of exactly 64 lower-case hex
// digits is an image ID, and is refused.
//
// These are the rules of Kubernetes' ParseImageName (k8s.io/kubernetes, pkg/util/parsers,
// over github.com/distribution/reference v0.6.0) with one difference: if the first
// component has a dot and an underscore, as in foo_bar.com/x, that function returns a name
// without a registry, which no client can pull. Here such a name is an error,
// [ErrUnderscore].
//
// # Left out
//
// As in Kubernetes, a port may be 65536 or more, and text in brackets need not be an IP
// address: a client finds the mistake when it dials. Suffixes such as -amd64 have no
// meaning here. The package reads no file and uses no network.
package reference
