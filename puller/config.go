package puller

import (
	"log/slog"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/pullpolicy"
)

// A Config says how a Puller works. Only Runtime is needed.
type Config struct {
	// Runtime stores and pulls. The built-in one is package transfer's.
	Runtime Runtime
	// Keyring is the node's: its credentials may be used for every Pod. One that
	// is a credentials.PodKeyring is asked for the request's Pod. nil knows none.
	Keyring credentials.Keyring
	// Platform is what images are pulled for; zero = index.Host(). One without OS or
	// architecture is refused.
	Platform ocispec.Platform
	// Parallel is the number of images pulled at a time; the others wait, first
	// come, first served. Zero = 1, the kubelet's serial pulls; negative = no limit.
	Parallel int
	// QPS refuses pulls beyond so many a second, instead of letting them wait: a
	// refused pull has failed and backs off. Zero = no limit; the kubelet's is 5.
	QPS float64
	// Burst is how many pulls may come at once under QPS. Zero = 10, as in the
	// kubelet; negative = none, which refuses every pull, as the kubelet's burst
	// of 0 does.
	Burst int
	// AlwaysPull makes every request's policy Always, as the AlwaysPullImages
	// admission plug-in does: each use of a private image is checked by its registry.
	AlwaysPull bool
	// Records remember who has pulled which image, so that one Pod cannot use what
	// another one's secret has brought onto the node. nil = who may use an image
	// that is present is not checked.
	Records Records
	// Verify says for which images Records are asked; zero = all but preloaded
	// ones, as in the kubelet. It needs Records.
	Verify pullpolicy.Verification
	// Backoff says how long an image that failed is not tried again.
	Backoff BackoffConfig
	// Kubelet takes over single shortcomings of the kubelet.
	Kubelet Kubelet
	// Events is called with what happens, while it happens: in order for one call
	// of the Puller, concurrently for several, and not after that call has
	// returned. It must return soon, and not call the Puller. nil = nobody listens.
	Events func(Event)
	// Logger is told what is nobody's error but should be known; nil = silent.
	Logger *slog.Logger
}

// A BackoffConfig says how long an image that failed is not tried again.
type BackoffConfig struct {
	Initial time.Duration // after the first failure; doubled by each further one. Zero = 10 s
	Max     time.Duration // the longest; a streak of failures ends after 2*Max without one. Zero = 300 s
	// Jitter lengthens each delay by a random part of itself, up to this factor,
	// so that nodes do not retry all at once. Zero = none, as in the kubelet.
	Jitter float64
}

// Kubelet names differences to the kubelet, of Kubernetes 1.36 to 1.38 beta. Each field that
// is set takes the kubelet's way; with all of them set a Puller decides as the
// kubelet does. The zero value is what is recommended.
type Kubelet struct {
	// KeepStreak: a success does not end a streak of failures, so that the next
	// failure waits for longer than the first one did.
	KeepStreak bool
	// KeepWindow: a repaired secret does not open the back-off's window.
	KeepWindow bool
	// NameAsWritten: the back-off and the records are kept by the name as written,
	// so that nginx and docker.io/library/nginx:latest are two images, and by the
	// Pod alone: a failure for one platform holds up the others.
	NameAsWritten bool
	// FailOnBadSecret: one malformed secret, or one source that cannot answer,
	// fails the pull, without event and back-off.
	FailOnBadSecret bool
	// TryAllOnError: every credential is tried whatever the error, also when the
	// disk is full or the registry asked everybody to wait (429); for how long it
	// asked does not count.
	TryAllOnError bool
	// KeepDuplicates: a credential that both the Pod's and the node's keyring know
	// is tried twice.
	KeepDuplicates bool
	// PolicyAsWritten: a policy that is none of the three, or not set, is taken
	// for one that pulls without a look at the store.
	PolicyAsWritten bool
	// PreloadedByID: an image that was always there is one no more for any of its
	// names once another name of the same content was pulled with a secret: who uses
	// it under the old name needs proof from then on, which nobody can give under
	// Never. Otherwise the old name stays usable by all. The new name needs its secret
	// either way.
	PreloadedByID bool
	// ReasonFromText: RegistryUnavailable and SignatureValidationFailed are told
	// only when all attempts gave the same answer.
	ReasonFromText bool
}
