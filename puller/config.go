package puller

import (
	"log/slog"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/backoff"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// A Config says how a Puller works. Only Runtime must be set.
type Config struct {
	// Runtime stores and pulls images. The built-in Runtime is package transfer's.
	Runtime Runtime
	// Keyring has the node's credentials, which may be used for every Pod. A
	// credentials.PodKeyring is asked for the request's Pod. nil = the node has none.
	Keyring credentials.Keyring
	// Platform is the platform that images are pulled for; zero = index.Host(). A
	// platform without OS or architecture is refused.
	Platform ocispec.Platform
	// Parser reads the names of images. The zero Parser is that of Kubernetes: a name without
	// a registry is a name at Docker Hub. The default pull policy depends on the name as
	// written, and not on the Parser, because the API server fills the policy in.
	Parser reference.Parser
	// Parallel is how many images are pulled at a time. Further pulls wait, and start in the
	// order in which they came. Zero = 1, the kubelet's serial pulls (serializeImagePulls:
	// true, its default); negative = no limit (serializeImagePulls: false). A positive number
	// is the kubelet's maxParallelImagePulls, which must be 1 if serializeImagePulls is true.
	Parallel int
	// QPS is how many pulls may start in a second. A pull beyond that number does not wait:
	// it fails and backs off. Zero = no limit; the kubelet's is 5.
	QPS float64
	// Burst is how many pulls may start at once under QPS. Zero = 10, as in the kubelet;
	// negative = every pull is refused, as with the kubelet's burst of 0.
	Burst int
	// AlwaysPull makes every request's policy Always, as the AlwaysPullImages
	// admission plug-in does: the registry checks each use of a private image.
	AlwaysPull bool
	// Records remember which credential has pulled which image. So a Pod cannot use an image
	// that was pulled with the secret of another Pod. nil = every Pod may use a present
	// image.
	Records records.Store
	// Verify says for which images a Pod must prove, by Records, that it may use them; zero =
	// all except preloaded images, as in the kubelet. Verify needs Records.
	Verify pullpolicy.Verification
	// Admission decides whether an image may be used, for example by its signatures; see
	// package verify. It is asked before any blob of an image is fetched. It is also asked
	// before an image is used that is stored already, under every pull policy, Never
	// included.
	//
	// An answer that admits an image is remembered for the repository, the digests of the
	// image, the Fingerprint of the Admission and the Pod's namespace. The Puller remembers
	// 4,096 such answers. Records that are a records.AdmissionStore keep them for later
	// processes.
	//
	// One question may take two minutes. A refusal is SignatureValidationFailed. If the
	// Admission cannot decide, the pull fails with content.ErrCheckFailed. Both start a
	// back-off window. The Runtime must be an Inspector. nil = every image may be used.
	Admission content.Check
	// TrustPresent makes the Puller use images that are stored already without a question to
	// Admission. Then images that were stored before Admission was set, or by other programs,
	// count as admitted. TrustPresent needs Admission.
	TrustPresent bool
	// Backoff says for how long an image is not tried again after a failure. Its zero fields
	// mean the kubelet's 10 s, doubled up to 300 s, without jitter.
	Backoff backoff.Config
	// AsKubelet makes the Puller decide in all points as the kubelet of Kubernetes 1.36 to
	// 1.38 beta does: it sets every field of Kubelet.
	AsKubelet bool
	// Kubelet restores single behaviours of the kubelet.
	Kubelet Kubelet
	// Used is called with each image that a call returns, pulled or present already, just
	// before that call returns. If Used passes the image's ID to the method Used of a
	// gc.Collector, the Collector knows when images were last used. Calls may come
	// concurrently. Used must return soon and must not call the Puller. nil = nothing is
	// called.
	Used func(Image)
	// Events is called with each event when it happens. The events of one call of the
	// Puller come in order, and all of them before that call returns. Events of different
	// calls may come concurrently. Events must return soon and must not call the Puller.
	// nil = no events.
	Events func(Event)
	// Logger gets the problems that an operator should know although no call fails because of
	// them; nil = no log.
	Logger *slog.Logger
}

// Kubelet restores single behaviours of the kubelet. The zero value is recommended.
// Config.AsKubelet sets all fields.
type Kubelet struct {
	// KeepStreak: a success does not end a streak of failures, so the window after the
	// next failure is longer than the window after the first failure.
	KeepStreak bool
	// KeepWindow: a repaired secret is not tried before the back-off window ends.
	KeepWindow bool
	// NameAsWritten: the back-off is kept for the name as written and the Pod, and the
	// records for the name as written. Then nginx and docker.io/library/nginx:latest are two
	// images, and a failure for one platform delays the others.
	NameAsWritten bool
	// FailOnBadSecret: one malformed secret, or one source that cannot answer,
	// fails the pull, without event and back-off.
	FailOnBadSecret bool
	// TryAllOnError: every credential is tried whatever the error, even when the disk is
	// full or the registry asked every client to wait (429). The time that the registry
	// asked to wait is ignored.
	TryAllOnError bool
	// KeepDuplicates: a credential that is in both the Pod's and the node's keyring is
	// tried twice.
	KeepDuplicates bool
	// PolicyAsWritten: if the policy is empty or is not one of the three, the image is
	// pulled and the store is not asked.
	PolicyAsWritten bool
	// PreloadedByID: after another name of the same content was pulled with a secret, a Pod
	// needs proof for a preloaded image under its own name too. Under Never no Pod can give
	// that proof. Without this field every Pod may use the preloaded name. With and without
	// it, the name that was pulled needs its secret.
	PreloadedByID bool
	// ReasonFromText: RegistryUnavailable and SignatureValidationFailed are the reason
	// of a failed pull only if all attempts gave the same answer.
	ReasonFromText bool
}

// asKubelet returns a Kubelet with every field set.
func asKubelet() Kubelet {
	return Kubelet{
		KeepStreak: true, KeepWindow: true, NameAsWritten: true, FailOnBadSecret: true, TryAllOnError: true,
		KeepDuplicates: true, PolicyAsWritten: true, PreloadedByID: true, ReasonFromText: true,
	}
}
