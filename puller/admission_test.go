package puller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An inspectedRuntime is a fakeRuntime that is an Inspector. Its Pull calls Spec.Admit,
// unless forgets is set.
type inspectedRuntime struct {
	fakeRuntime
	forgets  bool
	moved    bool   // Inspect finds another image than Status
	nameless bool   // its images have no digests
	fetching func() // called after Spec.Admit
}

func fakeTop(ref reference.Reference) digest.Digest { return digest.FromString(ref.String()) }

func (r *inspectedRuntime) admission(spec Spec) content.Admission {
	top := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: fakeTop(spec.Ref), Size: 1}
	pinned, err := spec.Ref.WithDigest(top.Digest)
	if r.nameless {
		top.Digest = ""
	}
	if err != nil {
		panic(err)
	}
	return content.Admission{Ref: spec.Ref, Repo: content.Repo{Ref: pinned, Cred: spec.Credential}, Top: top, Descriptor: top, Manifest: []byte("{}")}
}

func (r *inspectedRuntime) image(spec Spec) Image {
	d := fakeTop(spec.Ref)
	if r.nameless {
		d = ""
	}
	return Image{Ref: spec.Ref, ID: string(d), Digest: d, Manifest: d, Size: 4096}
}

func (r *inspectedRuntime) Status(ctx context.Context, spec Spec) (Image, error) {
	if _, err := r.fakeRuntime.Status(ctx, spec); err != nil {
		return Image{}, err
	}
	return r.image(spec), nil
}

func (r *inspectedRuntime) Pull(ctx context.Context, spec Spec) (Image, error) {
	if !r.forgets {
		if err := spec.Admit(ctx, r.admission(spec)); err != nil {
			reason := ErrSignatureValidation
			if content.ReasonOf(err) != content.ErrRefused {
				return Image{}, credentials.Stop(err)
			}
			return Image{}, credentials.Stop(errors.Join(err, reason))
		}
	}
	if r.fetching != nil {
		r.fetching()
	}
	if _, err := r.fakeRuntime.Pull(ctx, spec); err != nil {
		return Image{}, err
	}
	return r.image(spec), nil
}

func (r *inspectedRuntime) Inspect(_ context.Context, spec Spec) (content.Admission, error) {
	r.call("read %s with %s", spec.Written, credentialID(spec.Credential))
	a := r.admission(spec)
	if r.moved {
		a.Top.Digest = digest.FromString("another")
	}
	return a, nil
}

// A fakeCheck answers by a function, and remembers the questions.
type fakeCheck struct {
	mu     sync.Mutex
	print  string
	answer func(context.Context, content.Admission) error
	asked  []string
}

func (c *fakeCheck) Admit(ctx context.Context, image content.Admission) (string, error) {
	c.mu.Lock()
	c.asked = append(c.asked, fmt.Sprintf("%s for %s with %s", image.Ref.Familiar(), image.Pod.Namespace, credentialID(image.Repo.Cred)))
	answer := c.answer
	c.mu.Unlock()
	if answer != nil {
		if err := answer(ctx, image); err != nil {
			return "", err
		}
	}
	return "key one", nil
}

func (c *fakeCheck) Fingerprint() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.print
}

func (c *fakeCheck) Explain(ref reference.Reference) string {
	return "the rule for " + ref.Repository()
}

func (c *fakeCheck) set(print string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.print = print
	c.answer = func(context.Context, content.Admission) error { return err }
}

// took returns the questions since the last call of took.
func (c *fakeCheck) took() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.asked
	c.asked = nil
	return asked
}

func newAdmitting(t *testing.T, change func(*Config)) (*Puller, *inspectedRuntime, *fakeCheck) {
	rt, check := &inspectedRuntime{}, &fakeCheck{print: "p1"}
	config := Config{Runtime: rt, Admission: check}
	if change != nil {
		change(&config)
	}
	p, err := New(config)
	require.NoError(t, err)
	return p, rt, check
}

const checkedImage = "registry.example/team/app:v1"

func ofNamespace(namespace string, policy pullpolicy.Policy) Request {
	return Request{Image: checkedImage, Policy: policy, Pod: credentials.Pod{Namespace: namespace, Name: "p", UID: namespace}}
}

// The check is asked once for each repository, digest, fingerprint and namespace, under
// every pull policy.
func TestAdmissionIsAskedOnceForEachQuestion(t *testing.T) {
	p, rt, check := newAdmitting(t, nil)
	img, err := p.Pull(t.Context(), ofNamespace("a", pullpolicy.IfNotPresent))
	require.NoError(t, err)
	assert.Equal(t, "key one", img.AdmittedBy)
	assert.Equal(t, []string{"registry.example/team/app:v1 for a with anonymous"}, check.took())
	for _, policy := range []pullpolicy.Policy{pullpolicy.IfNotPresent, pullpolicy.Always, pullpolicy.Never} {
		img, err = p.Pull(t.Context(), ofNamespace("a", policy))
		require.NoError(t, err)
		assert.Equal(t, "key one", img.AdmittedBy)
	}
	assert.Empty(t, check.took(), "the answer is remembered")
	_, err = p.Pull(t.Context(), ofNamespace("b", pullpolicy.Never))
	require.NoError(t, err)
	assert.Len(t, check.took(), 1, "another namespace")
	check.set("p2", nil)
	for _, policy := range []pullpolicy.Policy{pullpolicy.Never, pullpolicy.IfNotPresent, pullpolicy.Always} {
		_, err = p.Pull(t.Context(), ofNamespace("a", policy))
		require.NoError(t, err)
	}
	assert.Len(t, check.took(), 1, "another policy")
	check.set("", nil)
	for range 3 {
		_, err = p.Pull(t.Context(), ofNamespace("a", pullpolicy.Never))
		require.NoError(t, err)
	}
	assert.Len(t, check.took(), 3, "without a fingerprint no answer is remembered")
	assert.Contains(t, rt.took(), "read "+checkedImage+" with anonymous")
}

// A stored image that no check has seen is checked before it is used.
func TestAPresentImageIsCheckedUnderEveryPolicy(t *testing.T) {
	for _, policy := range []pullpolicy.Policy{pullpolicy.Never, pullpolicy.IfNotPresent, pullpolicy.Always} {
		p, rt, check := newAdmitting(t, nil)
		rt.store = map[string]string{checkedImage: "1"}
		check.set("p1", errors.New("unsigned"))
		_, err := p.Pull(t.Context(), ofNamespace("a", policy))
		assert.ErrorIs(t, err, ErrSignatureValidation, "%s", policy)
		assert.ErrorIs(t, err, content.ErrRefused, "%s", policy)
		assert.ErrorContains(t, err, "unsigned")
		assert.Len(t, check.took(), 1, "%s", policy)

		_, err = p.Pull(t.Context(), ofNamespace("a", policy))
		assert.ErrorIs(t, err, ErrImagePullBackOff, "a refusal starts a back-off window")
		assert.ErrorIs(t, err, content.ErrRefused)
		assert.Empty(t, check.took(), "%s", policy)

		p, rt, check = newAdmitting(t, func(c *Config) { c.TrustPresent = true })
		rt.store = map[string]string{checkedImage: "1"}
		check.set("p1", errors.New("unsigned"))
		img, err := p.Pull(t.Context(), ofNamespace("a", policy))
		if policy == pullpolicy.Always {
			assert.ErrorIs(t, err, ErrSignatureValidation, "the next call pulls the image, and asks again")
			continue
		}
		require.NoError(t, err, "%s", policy)
		assert.Empty(t, img.AdmittedBy)
		assert.Empty(t, check.took(), "%s", policy)
	}
}

// The check of a present image gets the Pod's credentials one after another, until the
// registry shows with one of them what the check needs.
func TestTheCheckOfAPresentImageTriesTheCredentials(t *testing.T) {
	p, rt, check := newAdmitting(t, nil)
	rt.store = map[string]string{checkedImage: "1"}
	check.answer = func(_ context.Context, image content.Admission) error {
		if image.Repo.Cred.Username == "right" {
			return nil
		}
		return fmt.Errorf("signature: %w", &content.Error{Reason: content.ErrDenied, Host: "registry.example", Status: 403})
	}
	ring := &fakeKeyring{creds: []credentials.Credential{
		{Username: "wrong", Password: credentials.Conceal("x"), Origin: credentials.Origin{Key: "one"}},
		{Username: "right", Password: credentials.Conceal("y"), Origin: credentials.Origin{Key: "two"}},
	}}
	req := ofNamespace("a", pullpolicy.Never)
	req.Keyring = ring
	_, err := p.Pull(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, []string{"registry.example/team/app:v1 for a with one", "registry.example/team/app:v1 for a with two"}, check.took())

	check.set("p2", errors.New("unsigned"))
	_, err = p.Pull(t.Context(), req)
	assert.ErrorIs(t, err, ErrSignatureValidation)
	assert.Len(t, check.took(), 1, "a refusal is final")
}

// A check that cannot decide keeps the image out, and its error differs from that of a refusal.
func TestACheckThatCannotDecideKeepsTheImageOut(t *testing.T) {
	for name, own := range map[string]error{
		"unreachable": &content.Error{Reason: content.ErrNetwork, Host: "registry.example"},
		"its time":    context.DeadlineExceeded,
		"no access":   &content.Error{Reason: content.ErrUnauthorized},
		"own reason":  &content.Error{Reason: content.ErrCheckFailed, Err: errors.New("no directory")},
	} {
		for _, present := range []bool{false, true} {
			p, rt, check := newAdmitting(t, nil)
			if present {
				rt.store = map[string]string{checkedImage: "1"}
			}
			check.set("p1", fmt.Errorf("signature: %w", own))
			_, err := p.Pull(t.Context(), ofNamespace("a", pullpolicy.IfNotPresent))
			assert.ErrorIs(t, err, content.ErrCheckFailed, name)
			assert.ErrorIs(t, err, ErrImagePull, name)
			assert.NotErrorIs(t, err, ErrSignatureValidation, name)
			assert.Empty(t, rt.used, "%s: nothing is pulled", name)
		}
	}
}

// A pull does not wait longer than two minutes for a check that ignores its context.
func TestACheckThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, rt, check := newAdmitting(t, nil)
		rt.store = map[string]string{checkedImage: "1"}
		stop := make(chan struct{})
		check.answer = func(context.Context, content.Admission) error { <-stop; return nil }
		began := time.Now()
		_, err := p.Pull(t.Context(), ofNamespace("a", pullpolicy.Never))
		assert.ErrorIs(t, err, content.ErrCheckFailed)
		assert.ErrorContains(t, err, "2m0s")
		assert.LessOrEqual(t, time.Since(began), 2*time.Minute+time.Second)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		_, err = p.Pull(ctx, ofNamespace("b", pullpolicy.Never))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.NotErrorIs(t, err, content.ErrCheckFailed, "the caller has left")
		assert.LessOrEqual(t, time.Since(began), 2*time.Second)
		close(stop)
		synctest.Wait()
	})
}

// If a Runtime does not call Spec.Admit, the Puller asks the check before it returns the
// image.
func TestAnImageOfARuntimeThatDoesNotCallAdmitIsChecked(t *testing.T) {
	p, rt, check := newAdmitting(t, nil)
	rt.forgets = true
	img, err := p.Pull(t.Context(), ofNamespace("a", pullpolicy.Always))
	require.NoError(t, err)
	assert.Equal(t, "key one", img.AdmittedBy)
	assert.Len(t, check.took(), 1)
	check.set("p2", errors.New("unsigned"))
	_, err = p.Pull(t.Context(), ofNamespace("a", pullpolicy.Always))
	assert.ErrorIs(t, err, ErrSignatureValidation)

	p, rt, _ = newAdmitting(t, nil)
	rt.forgets, rt.moved = true, true
	_, err = p.Pull(t.Context(), ofNamespace("a", pullpolicy.Always))
	assert.ErrorIs(t, err, content.ErrCheckFailed, "the store has another image than the one that was pulled")
}

// Records keep the answers that admit an image, so the next process does not ask again.
func TestAdmissionsSurviveARestart(t *testing.T) {
	dir, err := records.Open(t.TempDir())
	require.NoError(t, err)
	defer dir.Close()
	withRecords := func(c *Config) { c.Records = dir }
	p, rt, check := newAdmitting(t, withRecords)
	_, err = p.Pull(t.Context(), ofNamespace("a", pullpolicy.IfNotPresent))
	require.NoError(t, err)
	assert.Len(t, check.took(), 1)
	rec, err := dir.Record(t.Context(), string(fakeTop(reference.MustParse(checkedImage))))
	require.NoError(t, err)
	require.Len(t, rec.Admissions, 1)
	got := rec.Admissions[0]
	assert.WithinDuration(t, time.Now(), got.Time, time.Minute)
	got.Time = time.Time{}
	assert.Equal(t, records.Admission{Name: "registry.example/team/app", Digest: digest.Digest(rec.ID), Policy: "p1", Namespace: "a", By: "key one"}, got)

	store := rt.store
	for _, policy := range []pullpolicy.Policy{pullpolicy.Never, pullpolicy.Always} {
		p, rt, check = newAdmitting(t, withRecords)
		rt.store = store
		img, err := p.Pull(t.Context(), ofNamespace("a", policy))
		require.NoError(t, err)
		assert.Equal(t, "key one", img.AdmittedBy)
		assert.Empty(t, check.took(), "%s", policy)
		_, err = p.Pull(t.Context(), ofNamespace("b-"+string(policy), policy))
		require.NoError(t, err)
		assert.Len(t, check.took(), 1, "another namespace is not on record")
	}
	p, rt, check = newAdmitting(t, withRecords)
	rt.store = store
	check.set("p2", errors.New("unsigned"))
	_, err = p.Pull(t.Context(), ofNamespace("a", pullpolicy.Never))
	assert.ErrorIs(t, err, ErrSignatureValidation, "the record is of another policy")
}

// If a check changes while it is asked, its answer counts for the fingerprint from before
// the question.
func TestAnAdmissionIsRecordedForThePolicyThatWasAsked(t *testing.T) {
	for _, present := range []bool{false, true} {
		dir, err := records.Open(t.TempDir())
		require.NoError(t, err)
		defer dir.Close()
		p, rt, check := newAdmitting(t, func(c *Config) { c.Records = dir })
		if present {
			rt.store = map[string]string{checkedImage: "1"}
		}
		check.answer = func(context.Context, content.Admission) error {
			check.mu.Lock()
			defer check.mu.Unlock()
			check.print, check.answer = "p2", func(context.Context, content.Admission) error { return errors.New("revoked") }
			return nil
		}
		_, err = p.Pull(t.Context(), ofNamespace("a", pullpolicy.IfNotPresent))
		require.NoError(t, err)
		rec, err := dir.Record(t.Context(), string(fakeTop(reference.MustParse(checkedImage))))
		require.NoError(t, err)
		require.Len(t, rec.Admissions, 1)
		assert.Equal(t, "p1", rec.Admissions[0].Policy)
		_, err = p.Pull(t.Context(), ofNamespace("a", pullpolicy.Never))
		assert.ErrorIs(t, err, ErrSignatureValidation)
	}
}

// A call that starts after the fingerprint has changed does not share a pull with an
// earlier call. Without a fingerprint no calls share a pull.
func TestCallsUnderDifferentFingerprintsDoNotShareAPull(t *testing.T) {
	for before, after := range map[string]string{"p1": "p2", "": ""} {
		p, rt, check := newAdmitting(t, func(c *Config) { c.Parallel = -1 })
		check.set(before, nil)
		fetching, finish := make(chan struct{}), make(chan struct{})
		rt.fetching = func() { close(fetching); <-finish }
		first := make(chan error)
		go func() {
			_, err := p.Pull(t.Context(), ofNamespace("a", pullpolicy.Always))
			first <- err
		}()
		<-fetching
		check.set(after, errors.New("unsigned"))
		_, err := p.Pull(t.Context(), ofNamespace("a", pullpolicy.Always))
		assert.ErrorIs(t, err, ErrSignatureValidation, "from %q to %q", before, after)
		close(finish)
		assert.NoError(t, <-first, "it was admitted when it began")
	}
}

// An image without digests is not admitted, because that answer would admit every other
// image without digests.
func TestAnImageWithoutDigestsIsNotAdmitted(t *testing.T) {
	for _, policy := range []pullpolicy.Policy{pullpolicy.Never, pullpolicy.Always} {
		for _, forgets := range []bool{false, true} {
			p, rt, check := newAdmitting(t, nil)
			rt.store = map[string]string{checkedImage: "1"}
			rt.nameless, rt.forgets = true, forgets
			_, err := p.Pull(t.Context(), ofNamespace("a", policy))
			assert.ErrorIs(t, err, content.ErrCheckFailed)
			assert.ErrorContains(t, err, "which digests")
			assert.Empty(t, check.took())
		}
	}
}

// The Fingerprint of a stuckCheck does not return before stop is closed.
type stuckCheck struct{ stop chan struct{} }

func (c stuckCheck) Fingerprint() string { <-c.stop; return "p" }

func (stuckCheck) Admit(context.Context, content.Admission) (string, error) { return "", nil }

// A call ends with its context, even if Fingerprint does not return.
func TestACallDoesNotWaitForAFingerprintAfterItsContext(t *testing.T) {
	for _, policy := range []pullpolicy.Policy{pullpolicy.Never, pullpolicy.Always} {
		synctest.Test(t, func(t *testing.T) {
			rt, check := &inspectedRuntime{}, stuckCheck{make(chan struct{})}
			rt.store = map[string]string{checkedImage: "1"}
			p, err := New(Config{Runtime: rt, Admission: check})
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			_, err = p.Pull(ctx, ofNamespace("a", policy))
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Less(t, time.Since(began), 2*time.Second)
			close(check.stop)
			synctest.Wait()
		})
	}
}

// The record of an admission does not say that the image was pulled.
func TestAnAdmissionOnRecordLeavesAPreloadedImagePreloaded(t *testing.T) {
	for _, byID := range []bool{false, true} {
		dir, err := records.Open(t.TempDir())
		require.NoError(t, err)
		defer dir.Close()
		p, rt, _ := newAdmitting(t, func(c *Config) { c.Records, c.Kubelet.PreloadedByID = dir, byID })
		rt.store = map[string]string{checkedImage: "1"}
		for range 2 {
			_, err = p.Pull(t.Context(), ofNamespace("a", pullpolicy.Never))
			require.NoError(t, err)
		}
	}
}

// Records that cannot be read or written admit no image, and they refuse no image.
func TestFaultyRecordsOfAdmissionsAdmitNothing(t *testing.T) {
	verify, err := pullpolicy.NewVerification(pullpolicy.NeverVerify)
	require.NoError(t, err)
	recs := &scriptedRecords{err: errors.New("broken disk")}
	p, rt, check := newAdmitting(t, func(c *Config) { c.Records, c.Verify = recs, verify })
	rt.store = map[string]string{checkedImage: "1"}
	check.set("p1", errors.New("unsigned"))
	_, err = p.Pull(t.Context(), ofNamespace("a", pullpolicy.Never))
	assert.ErrorIs(t, err, ErrSignatureValidation)
	check.set("p1", nil)
	_, err = p.Pull(t.Context(), ofNamespace("b", pullpolicy.Never))
	assert.NoError(t, err)
}

// Pulls for different namespaces are not shared, because the check is asked for each
// namespace.
func TestPullsForDifferentNamespacesAreNotSharedUnderACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, check := newAdmitting(t, func(c *Config) { c.Parallel = -1 })
		check.answer = func(_ context.Context, image content.Admission) error {
			time.Sleep(time.Second)
			if image.Pod.Namespace == "b" {
				return errors.New("not for b")
			}
			return nil
		}
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i, namespace := range []string{"a", "b", "a", "b"} {
			wg.Go(func() { _, errs[i] = p.Pull(t.Context(), ofNamespace(namespace, pullpolicy.Always)) })
		}
		wg.Wait()
		assert.NoError(t, errs[0])
		assert.NoError(t, errs[2])
		assert.ErrorIs(t, errs[1], ErrSignatureValidation)
		assert.ErrorIs(t, errs[3], ErrSignatureValidation)
		assert.Len(t, check.took(), 2, "equal questions share one answer")
	})
}

func TestEventsHaveTheAnswerThatAdmittedTheImage(t *testing.T) {
	var events []Event
	p, rt, check := newAdmitting(t, func(c *Config) { c.Events = func(e Event) { events = append(events, e) } })
	_, err := p.Pull(t.Context(), ofNamespace("a", pullpolicy.Always))
	require.NoError(t, err)
	_, err = p.Pull(t.Context(), ofNamespace("a", pullpolicy.Never))
	require.NoError(t, err)
	var admitted int
	for _, e := range events {
		if e.Reason == EventPulled {
			assert.Equal(t, "key one", e.AdmittedBy)
			text, err := e.MarshalJSON()
			require.NoError(t, err)
			assert.Contains(t, string(text), `"admittedBy":"key one"`)
			admitted++
		}
	}
	assert.Equal(t, 2, admitted)
	events = nil
	check.set("p2", errors.New("unsigned"))
	_, err = p.Pull(t.Context(), ofNamespace("a", pullpolicy.Never))
	require.Error(t, err)
	require.Len(t, events, 1)
	assert.Equal(t, EventFailed, events[0].Reason)
	assert.Equal(t, "Warning", events[0].Type)
	assert.Contains(t, events[0].Message, "unsigned")
	assert.Positive(t, events[0].RetryAfter)
	assert.NotEmpty(t, rt.took())
}

func TestExplainShowsTheAdmission(t *testing.T) {
	p, rt, check := newAdmitting(t, nil)
	rt.store = map[string]string{checkedImage: "1"}
	req := ofNamespace("a", pullpolicy.Never)
	d, err := p.Explain(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, ActionCheck, d.Action)
	assert.Equal(t, &AdmissionState{Policy: "p1", Rule: "the rule for team/app"}, d.Admission)
	assert.Contains(t, d.String(), "use what is stored, if it is admitted")
	assert.Contains(t, d.String(), "would be asked")
	assert.Contains(t, d.String(), "the rule for team/app")
	assert.Empty(t, check.took(), "Explain does not ask")

	_, err = p.Pull(t.Context(), req)
	require.NoError(t, err)
	d, err = p.Explain(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, ActionUse, d.Action)
	assert.Equal(t, &AdmissionState{Policy: "p1", Rule: "the rule for team/app", Admitted: true, AdmittedBy: "key one"}, d.Admission)
	assert.Contains(t, d.String(), "by key one")

	check.set("p2", errors.New("unsigned"))
	_, err = p.Pull(t.Context(), req)
	require.Error(t, err)
	d, err = p.Explain(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, ActionWait, d.Action)

	p, rt, _ = newAdmitting(t, func(c *Config) { c.TrustPresent = true })
	rt.store = map[string]string{checkedImage: "1"}
	d, err = p.Explain(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, ActionUse, d.Action)
	assert.True(t, d.Admission.Trusted)
	d, err = p.Explain(t.Context(), Request{Image: "registry.example/absent:v1"})
	require.NoError(t, err)
	assert.Equal(t, "the rule for absent", d.Admission.Rule)
}

func TestAdmissionNeedsAnInspector(t *testing.T) {
	_, err := New(Config{Runtime: &fakeRuntime{}, Admission: &fakeCheck{}})
	assert.ErrorContains(t, err, "Config.Admission needs a Runtime that is an Inspector")
	_, err = New(Config{Runtime: &inspectedRuntime{}, TrustPresent: true})
	assert.EqualError(t, err, "puller: Config.TrustPresent needs Config.Admission")
}

// AdmittedBy is one line without secrets, of bounded length.
func TestAdmittedByIsOneShortLine(t *testing.T) {
	rt := &inspectedRuntime{}
	p, err := New(Config{Runtime: rt, Admission: longCheck{}})
	require.NoError(t, err)
	img, err := p.Pull(t.Context(), ofNamespace("a", pullpolicy.Always))
	require.NoError(t, err)
	assert.LessOrEqual(t, len(img.AdmittedBy), maxAdmittedBy+len("..."))
	assert.NotContains(t, img.AdmittedBy, "\n")
}

type longCheck struct{}

func (longCheck) Admit(context.Context, content.Admission) (string, error) {
	return "key\n" + strings.Repeat("x", 1000), nil
}
func (longCheck) Fingerprint() string { return "p" }
