// Package puller gets container images as the kubelet does: pull policy,
// credentials tried one after another, back-off, and who may use an image that is
// present already. It decides; a [Runtime] stores and transfers.
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
// The steps are those of the kubelet's image manager (pkg/kubelet/images of
// Kubernetes 1.36 to 1.38 beta); each case it was run with is a test here.
//
//	step           fails with                  event                               backs off
//	parse name     InvalidImageName            InspectFailed                       no
//	ask store      ImageInspectError           InspectFailed                       no
//	present        -                           Pulled: already present             no
//	Never, absent  ErrImageNeverPull           ErrImageNeverPull                   no
//	in the window  ImagePullBackOff            BackOff                             -
//	pull           ErrImagePull, ...           Pulling, then Pulled or Failed      yes
//
// Under Always the store is not asked. The window is looked at only where the registry
// would be asked, so an image that appears meanwhile is used at once. If no credential
// matches, there is one anonymous attempt. If some match, there is an anonymous attempt
// only where the keyring ends with an empty credential (credentials.Static{{}}).
//
// [Puller.Find] says whether an image exists and which credential opens it, by one HEAD
// and without a store.
//
// Back-off is kept for an image, a Pod and a platform: 10 s, doubled by each failure up
// to 300 s. It differs from the kubelet's in four points: it ends with a success, it
// treats all spellings of a name as one image, it lasts as long as a registry's
// Retry-After, and it lets one attempt through when the Pod's or the node's secrets have
// changed. [Kubelet] has a switch for each difference in what is decided.
//
// # Who may use what is present
//
// With Config.Records a Pod uses a present image only if the image was pulled
// anonymously, with the node's credential, with the Pod's secret or service account, or
// was always there. Otherwise the registry is asked with the Pod's own credentials, and
// under Never the image looks absent. Config.Verify chooses the policy, as
// imagePullCredentialsVerificationPolicy does.
//
// An image that was always there stays usable by all Pods under its name, also after
// another name of the same content was pulled with a secret. The other name needs that
// secret. This depends on a Runtime that finds an image only under names of its own
// repository.
//
// # Errors
//
// [Puller.Pull], [Puller.PullWait] and [Puller.Resolve] return an [*Error], and
// [Puller.PullAll] yields one for each image that failed. errors.Is finds its
// [Reason] and the answer to the credential that got furthest, such as fs.ErrNotExist
// or fs.ErrPermission, and never both. Attempts lists the credentials that were tried,
// with the answer to each. Hints say what the request and the node brought that was not
// used. RetryAfter says how long to wait.
//
// # Left out
//
// Nothing is unpacked or run. Images are never deleted: prune the store and call
// [Puller.Sweep]. Back-off is in memory, and forgotten with the Puller.
package puller
