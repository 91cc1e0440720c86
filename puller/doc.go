// Package puller gets container images as the kubelet does. It applies the pull policy,
// tries credentials one after another, backs off after failures, and checks whether a Pod
// may use an image that is present already. The package decides; a [Runtime] stores and
// transfers.
//
// The one call most users need is [Puller.Pull]:
//
//	store, err := layout.Open("images", layout.Config{})
//	rt, err := transfer.New(transfer.Config{Store: store})
//	p, err := puller.New(puller.Config{
//		Runtime: rt,
//		Keyring: node, // credentials.ReadFile, credentials.ReadProviders, ...
//	})
//	img, err := p.Pull(ctx, puller.Request{Image: "registry.example/team/app:v1", Keyring: podSecrets})
//
// # Steps
//
// The steps are those of the kubelet's image manager (pkg/kubelet/images of Kubernetes
// 1.36 to 1.38 beta). The tests of this package repeat cases that the kubelet's own code
// has answered.
//
//	step           fails with                  event                               backs off
//	parse name     InvalidImageName            InspectFailed                       no
//	ask store      ImageInspectError           InspectFailed                       no
//	present        -                           Pulled: already present             no
//	check it       SignatureValidationFailed   Failed                              yes
//	Never, absent  ErrImageNeverPull           ErrImageNeverPull                   no
//	in the window  ImagePullBackOff            BackOff                             -
//	pull           ErrImagePull, ...           Pulling, then Pulled or Failed      yes
//
// Under Always the store is not asked. The back-off window is checked only where the
// registry or Config.Admission would be asked. An image that appears in the store during a
// window is therefore used at once, unless Config.Admission has to be asked about it. If no
// credential matches, there is one anonymous attempt. If some credentials match, there is an
// anonymous attempt only where the keyring has an empty credential (credentials.Static{{}}).
//
// [Puller.Find] returns whether an image exists and which credential opens it. It sends
// HEAD requests and needs no store.
//
// Each image has one back-off window for each Pod, platform and runtime handler. A window
// lasts 10 s after the first failure, and each further failure doubles it, up to 300 s; see
// Config.Backoff. The back-off differs from the kubelet's in four points. It ends with a
// success. It treats all spellings of a name as one image. It lasts at least as long as a
// registry's Retry-After, up to a day. It lets one attempt through each time that the Pod's
// or the node's secrets have changed, at most 15 times in a streak of failures. [Kubelet]
// has a switch for each decision that differs from the kubelet's.
//
// # Which Pods may use a present image
//
// With Config.Records a Pod uses a present image only if the image was pulled
// anonymously, with the node's credential, or with the Pod's secret or service account,
// or if the image is preloaded. An image is preloaded if the records know of no pull that
// brought it. For all other Pods the registry is asked with the Pod's own credentials,
// and under Never the image counts as absent. Config.Verify chooses the policy, as
// imagePullCredentialsVerificationPolicy does.
//
// A preloaded image stays usable by all Pods under its name, even after another name of
// the same content was pulled with a secret. The other name needs that secret. This rule
// needs a Runtime that finds an image only under names of its own repository.
//
// # Which images may be used
//
// Config.Admission decides whether an image may be used at all, for example by its
// signatures; package verify has such checks. It gets the names, descriptors and the
// manifest of the image, the credential that opened it, the Source and the Pod, so that it
// can read a signature that lies next to a private image. It is asked before any blob is
// fetched, and nothing of a refused image is stored. The check is also asked about a
// present image that no check of this Fingerprint has admitted, before that image is used
// and under Never too: an image that was stored without a check is not used as if it had
// been checked. Config.TrustPresent switches that off. A present image can be private. So
// the check gets the Pod's and the node's credentials one after another, until the registry
// shows with one of them what the check needs.
//
// A refusal is SignatureValidationFailed. A check that cannot decide, because it reaches
// its time limit or because the signatures cannot be read, keeps the image out as well:
// the reason is ErrImagePull, and the error matches content.ErrCheckFailed. Both begin a
// back-off window, also for a present image. Answers that admit an image are remembered,
// and kept in the Records; no other answer is.
//
// # Errors
//
// [Puller.Pull], [Puller.PullWait], [Puller.Resolve] and [Puller.Find] return an [*Error],
// and [Puller.PullAll] yields one for each image that failed. errors.Is finds its [Reason]
// and the answer to the credential that got furthest. That answer can be an
// fs.ErrNotExist or an fs.ErrPermission, but never both. Attempts lists the credentials
// that were tried, with the answer to each. Hints names the Secrets and logins of the
// request and the node that were not used or look mistyped. RetryAfter is how long the
// caller has to wait before the next call.
//
// # Left out
//
// A Puller unpacks nothing and runs nothing. It never deletes images: prune the store and
// call [Puller.Sweep]. The back-off windows are in memory and end with the Puller.
package puller
