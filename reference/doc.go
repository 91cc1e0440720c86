// Package reference parses and prints the names of container images with the
// meaning Kubernetes gives them.
//
// The one call most users need is [Parse]:
//
//	ref, err := reference.Parse("registry.k8s.io/pause:3.10")
//
// A [Reference] is a small comparable value: two spellings of one image are
// equal, so it can be a map key. A name that is accepted costs no allocation.
//
// # Rules
//
// The sections are those of the Kubernetes page [Images]; a dash is a rule that it
// does not have.
//
//	rule                                              function              section
//	a host, with a port or without, stands first      Parse                 Image names
//	no host: docker.io, and library/ for a lone word  Parse                 Image names
//	which characters a tag has, and where             Parse                 Image names
//	neither tag nor digest: the tag latest            Parse                 Image names
//	a digest in place of the tag, or beside it        Reference.WithDigest  Image pull policy
//	old names for one architecture, pause-amd64       Reference.WithArch    Multi-architecture images
//	the name as it is handed to a runtime             ParseWritten          -
//	other defaults than those of Docker Hub           Parser                -
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
// What stands before the first slash is a registry exactly when it is
// "localhost" or holds a dot, a colon or an upper-case letter. The host
// index.docker.io is docker.io. A name with a digest alone gets no tag. A name of
// exactly 64 lower-case hex digits is an image ID, and refused.
//
// These are the rules of Kubernetes' ParseImageName (k8s.io/kubernetes,
// pkg/util/parsers, over github.com/distribution/reference v0.6.0) with one
// difference: where the first component holds a dot and an underscore, as in
// foo_bar.com/x, that function returns a name with no registry at all, which
// nothing can pull. Here it is an error, [ErrUnderscore].
//
// # Left out
//
// As in Kubernetes, whether a port is below 65536 and whether text in brackets
// is an IP address is not looked at: that is for whoever dials. Suffixes such as
// -amd64 are ordinary text and never guessed at. Nothing here reads a file or the
// network.
//
// [Images]: https://kubernetes.io/docs/concepts/containers/images/
package reference
