// Package pullpolicy decides what imagePullPolicy means: what the API server
// fills in, whether the local store is asked, and whether an image is pulled,
// used as it is, or refused.
//
// The one call most users need is [Policy.Decide], behind [Policy.Or]:
//
//	policy := written.Or(image)      // Always, IfNotPresent or Never
//	switch policy.Decide(presence) { // what the store and the records say
//	case pullpolicy.Use:
//	case pullpolicy.Pull:
//	case pullpolicy.Refuse, pullpolicy.Fail:
//	}
//
// # Rules
//
// The sections are those of the Kubernetes page [Images].
//
//	rule                                            function               section
//	tag latest, or neither tag nor digest: Always   Default                Default image pull policy
//	any other tag, or a digest alone: IfNotPresent  Default                Default image pull policy
//	a digest, whatever the tag: IfNotPresent        DefaultByDigest        Default image pull policy
//	IfNotPresent, Always, Never                     Policy.Decide          Image pull policy
//	every image of a Pod gets the policy Always     AlwaysPullImages       Required image pull
//	whether all Pods may use a pre-pulled image     Verification.Required  Pre-pulled images
//
// For a name with the tag latest and a digest the page says IfNotPresent. The API
// server's code says Always, and so does [Default]; [DefaultByDigest] follows the
// page. A name that Kubernetes cannot parse gets IfNotPresent: the API server
// leaves its error to others.
//
// [Policy.Decide] has this table:
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
// [Verification] and [Allowlist] are the kubelet's
// imagePullCredentialsVerificationPolicy and its allowlist.
//
// The rules are those of k8s.io/kubernetes v1.36 to v1.38.0-beta.0: pkg/apis/core/v1/defaults.go,
// pkg/apis/core/validation, pkg/kubelet/apis/config/validation,
// pkg/kubelet/images/image_manager.go, pkg/kubelet/images/pullmanager and
// plugin/pkg/admission/alwayspullimages.
//
// # Left out
//
// Nothing here does I/O. The records of who has pulled what, and the comparison
// of secrets with them, are kept by package puller.
//
// [Images]: https://kubernetes.io/docs/concepts/containers/images/
package pullpolicy
