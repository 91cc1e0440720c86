// Package reference parses and prints the names of container images with the
// meaning Kubernetes gives them.
//
// The one call most users need is [Parse]:
//
//	ref, err := reference.Parse("registry.k8s.io/pause:3.10")
//
// A [Reference] is a small comparable value: two spellings of one image are
// equal, so it can be a map key. Parsing it allocates nothing.
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
// "localhost" or holds a dot, a colon or an upper-case letter. All else is read
// from Docker Hub: the registry is docker.io, and a repository of one component
// lies below library/. The host index.docker.io is docker.io. A name with
// neither tag nor digest gets the tag latest; a name with a digest gets none. A
// name of exactly 64 lower-case hex digits is an image ID, and refused.
//
// These are the rules of Kubernetes' ParseImageName (k8s.io/kubernetes,
// pkg/util/parsers, over github.com/distribution/reference v0.6.0) with one
// difference: where the first component holds a dot and an underscore, as in
// foo_bar.com/x, that function returns a name with no registry at all, which
// nothing can pull. Here it is an error, [ErrUnderscore].
//
// # What is left out
//
// As in Kubernetes, whether a port is below 65536 and whether text in brackets
// is an IP address is not looked at: that is for whoever dials. Architecture
// suffixes such as pause-amd64 are ordinary text and never guessed at;
// [Reference.WithArch] writes one. Nothing here reads a file or the network.
package reference
