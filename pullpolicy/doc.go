// Package pullpolicy decides what imagePullPolicy means: what the API server
// fills in, whether the local store is asked, and whether an image is pulled,
// used as it is, or refused. Nothing here does I/O.
//
// The one call most users need:
//
//	policy := pod.Policy.Or(pod.Image)            // Always, IfNotPresent or Never
//	switch policy.Decide(presence) {              // what the store and the records say
//	case pullpolicy.Pull: ...
//
// # Defaults
//
// A policy that is not set becomes Always exactly when the image's tag, after
// defaulting, is latest: "pause", "pause:latest", and "pause:latest@sha256:...".
// Anything else becomes IfNotPresent, also a name that does not parse, whose
// error the API server leaves to others. The documentation page "Images" says
// that a name with a digest gets IfNotPresent; for a name with the tag latest
// and a digest the API server's code says Always, and so does [Default].
// [DefaultByDigest] follows the page.
//
// # Decisions
//
//	policy        store asked  Present  NeedsProof  Absent  Unknown
//	Always        no           Pull     Pull        Pull    Pull
//	IfNotPresent  yes          Use      Pull        Pull    Fail
//	Never         yes          Use      Refuse      Refuse  Fail
//	other         no           Fail     Fail        Fail    Fail
//
// NeedsProof is an image that is there, though this Pod has not shown that it
// may use it. Under Never it is refused just as an absent one, so that nobody
// learns what is on the node. A policy that is none of the three never passes
// the API server; the kubelet would pull, here it fails.
//
// [AlwaysPullImages] is the admission plug-in of this name; [Verification] and
// [Allowlist] are the kubelet's imagePullCredentialsVerificationPolicy.
//
// The rules are those of k8s.io/kubernetes v1.36.3: pkg/apis/core/v1/defaults.go,
// pkg/apis/core/validation, pkg/kubelet/apis/config/validation,
// pkg/kubelet/images/image_manager.go, pkg/kubelet/images/pullmanager and
// plugin/pkg/admission/alwayspullimages.
//
// # What is left out
//
// The records of who has pulled what, and the comparison of secrets with them:
// package puller keeps those.
package pullpolicy
