package puller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/checked"
	"github.com/pullkit/pullkit/internal/expiring"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/share"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/records"
)

const (
	// admissionTime is how long one question to Config.Admission may take.
	admissionTime = 2 * time.Minute
	// maxAdmittedBy is how many bytes of the answer to such a question are kept.
	maxAdmittedBy = 300
)

var errAdmissionTime = fmt.Errorf("the admission check gave no answer within %v: %w", admissionTime, context.DeadlineExceeded)

// An admitter asks Config.Admission, and remembers which images it has admitted. A nil
// admitter, without Config.Admission, admits all images.
type admitter struct {
	config *Config
	kept   expiring.Map[admissionKey, string] // who admitted the image
	calls  share.Calls[admissionCall, string]
}

// An admissionKey is what the answer to a question depends on.
type admissionKey struct {
	name          string        // of the repository
	top, manifest digest.Digest // of what the name points to, and of the platform's manifest
	policy        string        // the fingerprint; "" if no answer is remembered
	namespace     string
}

// An admissionCall is a question that callers can share while it is open.
type admissionCall struct {
	admissionKey
	cred credentials.Credential
}

func newAdmitter(config *Config) (*admitter, error) {
	if config.Admission == nil {
		if config.TrustPresent {
			return nil, errors.New("puller: Config.TrustPresent needs Config.Admission")
		}
		return nil, nil
	}
	if _, ok := config.Runtime.(Inspector); !ok {
		return nil, fmt.Errorf("puller: Config.Admission needs a Runtime that is an Inspector, which asks it before it fetches blobs; a %T is not", config.Runtime)
	}
	return &admitter{config: config}, nil
}

func (a *admitter) key(t *task, top, manifest digest.Digest) admissionKey {
	return admissionKey{name: t.ref.Name(), top: top, manifest: manifest, policy: a.config.Admission.Fingerprint(), namespace: t.pod.Namespace}
}

// fingerprint returns what Config.Admission decides by now, or false if ctx has ended.
func (a *admitter) fingerprint(ctx context.Context) (string, bool) {
	return await.Call(ctx, a.config.Admission.Fingerprint)
}

// named reports whether the Runtime has said which image was asked about.
func (k admissionKey) named() bool { return k.top != "" && k.manifest != "" }

// admitted returns who has admitted an image, if that is remembered or on record. id is the
// ID of the image.
func (a *admitter) admitted(ctx context.Context, key admissionKey, id string) (by string, ok bool) {
	if key.policy == "" || !key.named() {
		return "", false
	}
	if by, ok = a.kept.Get(key); ok {
		return by, true
	}
	if _, ok := a.config.Records.(records.AdmissionStore); !ok {
		return "", false
	}
	rec, err := a.config.Records.Record(ctx, id)
	if err != nil {
		return "", false // Admission is asked
	}
	i := slices.IndexFunc(rec.Admissions, a.recordOf(key, "").Equal)
	if i < 0 {
		return "", false
	}
	by = redact.Cut(rec.Admissions[i].By, maxAdmittedBy)
	a.kept.Put(key, by, time.Time{})
	return by, true
}

// recordOf returns the record of an answer.
func (a *admitter) recordOf(key admissionKey, by string) records.Admission {
	return records.Admission{Name: key.name, Digest: key.top, Policy: key.policy, Namespace: key.namespace, By: by}
}

// An admitting is an answer that admits an image. Its policy is the fingerprint from before
// the question, because the check may change meanwhile.
type admitting struct {
	by, policy string
}

// ask returns who has admitted the image, and asks Config.Admission if that is not known.
// The error is one of package checked.
func (a *admitter) ask(ctx context.Context, t *task, image content.Admission) (admitting, error) {
	key := a.key(t, image.Top.Digest, image.Descriptor.Digest)
	if !key.named() {
		return admitting{}, checked.Error(ctx, &content.Error{Reason: content.ErrStore, Err: errors.New("the runtime does not say which digests the image has")})
	}
	if by, ok := a.admitted(ctx, key, string(image.Descriptor.Digest)); ok {
		return admitting{by, key.policy}, nil
	}
	image.Pod = t.pod
	by, err := a.calls.Do(ctx, admissionCall{key, image.Repo.Cred}, func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, admissionTime, errAdmissionTime)
		defer cancel()
		var by string
		err := within(ctx, func() (err error) {
			by, err = a.config.Admission.Admit(ctx, image)
			return err
		})
		if err != nil {
			return "", err
		}
		by = redact.Cut(redact.Text(by), maxAdmittedBy)
		if key.policy != "" {
			a.kept.Put(key, by, time.Time{})
		}
		return by, nil
	})
	if err != nil {
		return admitting{}, checked.Error(ctx, err)
	}
	return admitting{by, key.policy}, nil
}

// record writes who has admitted the image, if Config.Records can keep that.
func (a *admitter) record(ctx context.Context, t *task, img Image, policy string) error {
	if policy == "" {
		return nil
	}
	store, ok := a.config.Records.(records.AdmissionStore)
	if !ok {
		return nil
	}
	key := admissionKey{name: t.ref.Name(), top: img.Digest, manifest: img.Manifest, policy: policy, namespace: t.pod.Namespace}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), recordTime, errRecordTime)
	defer cancel()
	return within(ctx, func() error {
		want := a.recordOf(key, img.AdmittedBy)
		rec, err := a.config.Records.Record(ctx, img.id())
		if err == nil && slices.ContainsFunc(rec.Admissions, want.Equal) {
			return nil
		}
		want.Time = time.Now().UTC()
		return store.Admit(ctx, img.id(), want)
	})
}

// An admissionOfPull asks about the image of one pull.
type admissionOfPull struct {
	admitter *admitter
	task     *task

	mu       sync.Mutex
	admitted map[[2]digest.Digest]admitting // by top and manifest
	policy   string                         // of the image that the pull has brought
}

// ofPull returns what asks about the image of a pull; nil without Config.Admission.
func (a *admitter) ofPull(t *task) *admissionOfPull {
	if a == nil {
		return nil
	}
	return &admissionOfPull{admitter: a, task: t, admitted: map[[2]digest.Digest]admitting{}}
}

// hook returns the function for Spec.Admit.
func (o *admissionOfPull) hook() func(context.Context, content.Admission) error {
	if o == nil {
		return nil
	}
	return func(ctx context.Context, image content.Admission) error {
		answer, err := o.admitter.ask(ctx, o.task, image)
		if err != nil {
			return err
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.admitted[[2]digest.Digest{image.Top.Digest, image.Descriptor.Digest}] = answer
		return nil
	}
}

// of returns img with who admitted it. If the Runtime has not asked about that image, of
// asks, with the spec of the pull.
func (o *admissionOfPull) of(ctx context.Context, img Image, spec Spec) (Image, error) {
	if o == nil {
		return img, nil
	}
	o.mu.Lock()
	answer, ok := o.admitted[[2]digest.Digest{img.Digest, img.Manifest}]
	o.mu.Unlock()
	if !ok {
		var err error
		if answer, err = o.admitter.inspect(ctx, o.task, img, spec); err != nil {
			return Image{}, err
		}
	}
	img.AdmittedBy, o.policy = answer.by, answer.policy
	return img, nil
}

// record writes who has admitted the image that the pull has brought.
func (o *admissionOfPull) record(ctx context.Context, img Image) error {
	if o == nil {
		return nil
	}
	return o.admitter.record(ctx, o.task, img, o.policy)
}

// inspect asks about a stored image, with the credential of spec.
func (a *admitter) inspect(ctx context.Context, t *task, img Image, spec Spec) (admitting, error) {
	image, err := a.config.Runtime.(Inspector).Inspect(ctx, spec)
	if err != nil {
		return admitting{}, credentials.Stop(fmt.Errorf("the stored image cannot be read: %w", err))
	}
	if image.Top.Digest != img.Digest || image.Descriptor.Digest != img.Manifest {
		return admitting{}, credentials.Stop(checked.Error(ctx, &content.Error{Reason: content.ErrStore,
			Err: fmt.Errorf("the store has %s now, and had %s", image.Top.Digest, img.Digest)}))
	}
	answer, err := a.ask(ctx, t, image)
	if err == nil || checked.OtherCredential(err) {
		return answer, err
	}
	return admitting{}, credentials.Stop(withSignatureReason(err))
}

// withSignatureReason adds the kubelet's reason to a refusal.
func withSignatureReason(err error) error {
	if content.ReasonOf(err) != content.ErrRefused {
		return err
	}
	return &refusal{err}
}

// A refusal is the refusal of a stored image.
type refusal struct{ err error }

func (r *refusal) Error() string   { return r.err.Error() }
func (r *refusal) Unwrap() []error { return []error{r.err, ErrSignatureValidation} }

// admitPresent asks about an image that is stored, unless it is known who admitted it. With
// an outcome that has an error, the image must not be used.
func (p *Puller) admitPresent(ctx context.Context, t *task, img Image) outcome {
	a := p.admission
	type known struct {
		by string
		ok bool
	}
	before, ok := await.Call(ctx, func() (k known) {
		k.by, k.ok = a.admitted(ctx, a.key(t, img.Digest, img.Manifest), img.id())
		return k
	})
	switch {
	case !ok:
		return outcome{err: t.ended(ctx)}
	case before.ok:
		img.AdmittedBy = before.by
		return outcome{image: img, present: true}
	}
	mirrors, ok := await.Call(ctx, func() *mirrorKeys { return p.config.mirrorKeys(ctx, t) })
	if !ok {
		return outcome{err: t.ended(ctx)}
	}
	secrets := t.fingerprint(mirrors)
	if window := p.backoff.state(t.key, secrets); !window.mayTry() {
		err := t.fail(ErrImagePullBackOff, nil)
		err.RetryAfter, err.Previous = window.wait, window.previous
		return outcome{err: err}
	}
	answer, _, err := askEach(ctx, p, t, func(ctx context.Context, spec Spec) (admitting, error) { return a.inspect(ctx, t, img, spec) })
	switch {
	case err != nil && ctx.Err() != nil:
		return outcome{err: err}
	case err != nil:
		err.Image = strings.Clone(t.image) // the error outlasts the request
		err.RetryAfter = p.backoff.fail(t.key, secrets, err, err.RetryAfter)
		return outcome{err: err, present: true}
	}
	if !p.config.Kubelet.KeepStreak {
		p.backoff.succeed(t.key)
	}
	img.AdmittedBy = answer.by
	if err := a.record(ctx, t, img, answer.policy); err != nil {
		p.config.Logger.Warn("the admission of an image could not be recorded", "image", t.ref.String(), "err", err)
		p.events.admissionNotRecorded(t)
	}
	return outcome{image: img, present: true}
}
