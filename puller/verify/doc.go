// Package verify has checks for puller.Config.Admission: programs that judge an image, and
// a policy that says which check decides about which image. Every check of this package
// keeps an image out unless it was explicitly admitted.
//
// The one call most users need is [Policy], with the programs of a directory:
//
//	programs, err := verify.Programs("/opt/verifiers", verify.Config{PassCredential: true})
//	check, err := verify.Policy(verify.Reject(),
//		verify.Rule{Pattern: "registry.example/team/*", Check: programs},
//		verify.Rule{Pattern: "registry.k8s.io/pause", Check: verify.Accept()})
//	p, err := puller.New(puller.Config{Runtime: rt, Admission: check})
//
// A check in Go is a [Func]. It gets the credential and the Source of the image. [Signed]
// reads the signatures next to the image for it.
//
// # Programs
//
// The programs speak the protocol of containerd's image verifier plugin, so that programs
// for that plugin work. Each file of the directory is a program. All of them are run, in
// the order of their names, until one does not admit the image. A program gets
//
//	-name NAME              the whole name of the image: registry.example/team/app:v1
//	-digest DIGEST          of what the name points to, often an index
//	-stdin-media-type TYPE  application/vnd.oci.descriptor.v1+json
//
// and on its standard input one JSON object with the mediaType, digest and size of what
// the name points to. It admits the image by ending with the status 0, and refuses it with
// any other status. What it writes to its standard output is the reason, which is in the
// error, or says who admitted the image. Its standard error goes to Config.Logger.
//
// No shell is used. The working directory is that of this process. The environment is
// Config.Environ, or else these variables of this process, as far as they are set: PATH,
// HOME, TMPDIR, TMP, TEMP, LANG, LC_ALL, TZ, XDG_CACHE_HOME, XDG_CONFIG_HOME,
// SSL_CERT_FILE, SSL_CERT_DIR, HTTP_PROXY, HTTPS_PROXY, NO_PROXY and these three in lower
// case, and on Windows SystemRoot, USERPROFILE, APPDATA, LOCALAPPDATA and PATHEXT.
//
// With Config.PassCredential, DOCKER_CONFIG is a directory with a config.json that has the
// credential which opened the image, for its registry, and nothing else. It is empty for
// an anonymous pull. Only the user of this process can read the directory, and it is
// removed before the check ends. If this process ends meanwhile, the directory stays in
// Config.TempDir.
//
// Who can write to the directory of the programs decides which images are used.
//
// # Faults
//
// Whatever is wrong, the image is not admitted. The second column says what the error
// means: a refusal is SignatureValidationFailed, and everything else is
// content.ErrCheckFailed.
//
//	fault                                              error
//	a program ends with another status than 0          refused
//	a program rejects the image, another admits it     refused
//	no rule of a Policy matches, and no default is set refused
//	the directory does not exist, or is a file         could not decide
//	the directory cannot be listed                     could not decide
//	the directory has no file                          could not decide
//	the directory has more than MaxPrograms files      could not decide
//	a file is a directory, a pipe or a broken link     could not decide
//	a file is not executable                           could not decide
//	a program, or its interpreter, cannot be started   could not decide
//	a program takes longer than Timeout                could not decide
//	a program writes more than MaxOutput               could not decide
//	a program is ended by a signal                     could not decide
//	a program leaves a process that holds its output   could not decide
//	the credential cannot be written or removed        could not decide
//	the caller's context ends                          (the end of the context)
//
// # Left out
//
// The package judges no signatures itself: examples/sigstore and examples/notation show
// checks with sigstore-go and notation-go, to copy. It does not run programs with limits of
// memory or another user; start them by a program that does that. It does not read the
// policy files of other tools.
package verify
