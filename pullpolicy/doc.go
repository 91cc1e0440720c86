// Package pullpolicy decides what imagePullPolicy means: which policy the API server
// fills in, whether the local store is asked, and whether an image is pulled, used as
// it is, or refused.
//
// The one call most users need is [Policy.Decide], after [Policy.OrDefault]:
//
//	policy := written.OrDefault(image) // Always, IfNotPresent or Never
//	switch policy.Decide(presence) { // what the store and the records say
//	case pullpolicy.Use:
//	case pullpolicy.Pull:
//	case pullpolicy.Refuse, pullpolicy.Fail:
//	}
//
// [Default] is the policy of a container that has none: Always for the tag latest and for a
// name with neither tag nor digest, IfNotPresent for all other names. For a name with the
// tag latest and a digest the Kubernetes documentation says IfNotPresent. The API server's
// code says Always, and so does Default; [DefaultByDigest] follows the documentation. A
// name that Kubernetes cannot parse gets IfNotPresent, because the API server does not
// refuse such names.
//
// [Images] lists all images that a Pod names, from the Pod's JSON, for webhooks and other
// programs that read or change Pods.
//
// [AlwaysPullImages] is the admission plug-in of that name. [Verification] is the kubelet's
// imagePullCredentialsVerificationPolicy, with the allowlist of images that every Pod may
// use.
//
// # Decisions
//
// [Policy.Decide] has this table:
//
//	policy        store asked  Present  NeedsProof  Absent  Unknown
//	Always        no           Pull     Pull        Pull    Pull
//	IfNotPresent  yes          Use      Pull        Pull    Fail
//	Never         yes          Use      Refuse      Refuse  Fail
//	other         no           Fail     Fail        Fail    Fail
//
// NeedsProof means that the image is present, but this Pod has not shown that it may use
// it. Under Never the image is refused like an absent image, so that a Pod does not learn
// which images are on the node. The API server refuses every other policy. The kubelet
// would pull under such a policy; Decide returns Fail.
//
// The rules are those of k8s.io/kubernetes v1.36 to v1.38.0-beta.0: pkg/apis/core/v1/defaults.go,
// pkg/apis/core/validation, pkg/kubelet/apis/config/validation,
// pkg/kubelet/images/image_manager.go, pkg/kubelet/images/pullmanager and
// plugin/pkg/admission/alwayspullimages.
//
// # Left out
//
// The package does no I/O. Package puller records which Secret has pulled which image, and
// compares a Pod's Secrets with those records.
package pullpolicy
