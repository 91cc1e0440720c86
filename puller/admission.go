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

// An admitter asks Config.Admission about images, and remembers the answers that admit
// one. A Puller without Config.Admission has a nil admitter, which admits all images.
type admitter struct {
	config *Config
	kept   expiring.Map[admissionKey, string] // the answers that admit an image, as in Image.AdmittedBy
	calls  share.Calls[admissionCall, string]
}

// An admissionKey has all that the answer of Config.Admission depends on.
type admissionKey struct {
	name          string        // of the repository
	top, manifest digest.Digest // of what the name points to, and of the platform's manifest
	policy        string        // the Fingerprint of Config.Admission; "" if its answers are not remembered
	namespace     string
}

// An admissionCall is one question to Config.Admission. Callers with equal questions wait
// for one answer.
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
		return nil, fmt.Errorf("puller: Config.Admission needs a Runtime that is an Inspector, because an Inspector asks it before it fetches blobs; %T is not an Inspector", config.Runtime)
	}
	return &admitter{config: config}, nil
}

func (a *admitter) key(t *task, top, manifest digest.Digest) admissionKey {
	return admissionKey{name: t.ref.Name(), top: top, manifest: manifest, policy: a.config.Admission.Fingerprint(), namespace: t.pod.Namespace}
}

// fingerprint returns the Fingerprint that Config.Admission has now. ok is false if ctx
// ended before that was known.
func (a *admitter) fingerprint(ctx context.Context) (policy string, ok bool) {
	return await.Call(ctx, a.config.Admission.Fingerprint)
}

// named reports whether the Runtime has named the digests of the image. Without them no
// answer can be remembered.
func (k admissionKey) named() bool { return k.top != "" && k.manifest != "" }

// admitted returns an earlier answer that admits the image with the ID id, as in
// Image.AdmittedBy. ok is false if the Puller remembers no such answer, and Config.Records
// have none.
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

// recordOf returns the form in which Config.Records keep an answer.
func (a *admitter) recordOf(key admissionKey, by string) records.Admission {
	return records.Admission{Name: key.name, Digest: key.top, Policy: key.policy, Namespace: key.namespace, By: by}
}

// An admissionAnswer is an answer that admits an image. Its policy is the Fingerprint from
// before the question, because the check may change before it answers.
type admissionAnswer struct {
	by, policy string
}

// ask returns the answer that admits the image. It asks Config.Admission if no earlier
// answer is known. The error is one of package checked.
func (a *admitter) ask(ctx context.Context, t *task, image content.Admission) (admissionAnswer, error) {
	key := a.key(t, image.Top.Digest, image.Descriptor.Digest)
	if !key.named() {
		return admissionAnswer{}, checked.Error(ctx, &content.Error{Reason: content.ErrStore, Err: errors.New("the runtime does not say which digests the image has")})
	}
	if by, ok := a.admitted(ctx, key, string(image.Descriptor.Digest)); ok {
		return admissionAnswer{by, key.policy}, nil
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
		return admissionAnswer{}, checked.Error(ctx, err)
	}
	return admissionAnswer{by, key.policy}, nil
}

// record writes the answer that admitted img into Config.Records, if these are a
// records.AdmissionStore and do not have it yet.
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

// An admissionOfPull asks Config.Admission about the image of one pull.
type admissionOfPull struct {
	admitter *admitter
	task     *task

	mu       sync.Mutex
	admitted map[[2]digest.Digest]admissionAnswer // by the digests of top and manifest
	policy   string                               // of the answer for the image that the pull has brought
}

// ofPull returns the admissionOfPull of a task; nil without Config.Admission.
func (a *admitter) ofPull(t *task) *admissionOfPull {
	if a == nil {
		return nil
	}
	return &admissionOfPull{admitter: a, task: t, admitted: map[[2]digest.Digest]admissionAnswer{}}
}

// hook returns the function for Spec.Admit; nil without Config.Admission.
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

// setAnswer returns img with AdmittedBy set. If the Runtime has not called Spec.Admit for this
// image, setAnswer asks Config.Admission, with the credential of spec.
func (o *admissionOfPull) setAnswer(ctx context.Context, img Image, spec Spec) (Image, error) {
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

// record writes the answer that admitted the image of the pull into Config.Records.
func (o *admissionOfPull) record(ctx context.Context, img Image) error {
	if o == nil {
		return nil
	}
	return o.admitter.record(ctx, o.task, img, o.policy)
}

// inspect asks Config.Admission about a stored image, with the credential of spec. Its
// errors stop the loop over the credentials, unless another credential can change the
// answer.
func (a *admitter) inspect(ctx context.Context, t *task, img Image, spec Spec) (admissionAnswer, error) {
	image, err := a.config.Runtime.(Inspector).Inspect(ctx, spec)
	if err != nil {
		return admissionAnswer{}, credentials.Stop(fmt.Errorf("the stored image cannot be read: %w", err))
	}
	if image.Top.Digest != img.Digest || image.Descriptor.Digest != img.Manifest {
		return admissionAnswer{}, credentials.Stop(checked.Error(ctx, &content.Error{Reason: content.ErrStore,
			Err: fmt.Errorf("the image changed in the store during the check: it is now %s, and was %s", image.Top.Digest, img.Digest)}))
	}
	answer, err := a.ask(ctx, t, image)
	if err == nil || checked.OtherCredential(err) {
		return answer, err
	}
	return admissionAnswer{}, credentials.Stop(withSignatureReason(err))
}

// withSignatureReason makes a refusal match ErrSignatureValidation too, the kubelet's
// reason.
func withSignatureReason(err error) error {
	if content.ReasonOf(err) != content.ErrRefused {
		return err
	}
	return &refusal{err}
}

// A refusal is the error of a stored image that Config.Admission has refused.
type refusal struct{ err error }

func (r *refusal) Error() string   { return r.err.Error() }
func (r *refusal) Unwrap() []error { return []error{r.err, ErrSignatureValidation} }

// admitPresent asks Config.Admission about a stored image, unless an earlier answer admits
// it. If the outcome has an error, the image must not be used.
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
	answer, _, err := askEach(ctx, p, t, func(ctx context.Context, spec Spec) (admissionAnswer, error) { return a.inspect(ctx, t, img, spec) })
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
