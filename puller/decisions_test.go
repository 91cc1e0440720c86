package puller

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"context"

	"github.com/pullkit/pullkit/backoff"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type decisionCase struct {
	Name   string
	Tags   []string
	Config struct {
		Initial    int64    `json:"backoff_initial_ms"`
		Max        int64    `json:"backoff_max_ms"`
		Verify     string   `json:"verify_policy"`
		Allowlist  []string `json:"allowlist"`
		QPS        float64
		Burst      int
		Serialized bool
	}
	Store map[string]string
	Steps []decisionStep
}

type decisionStep struct {
	At           int64 `json:"at_ms"`
	Op           string
	Pod          string
	Image        string
	Policy       string
	Credentials  []decisionCredential
	Backend      map[string]string
	InspectError string `json:"inspect_error"`
	LookupError  string `json:"credential_lookup_error"`
	Want         decisionWant
}

type decisionCredential struct {
	ID, Kind, Namespace, Name, UID, Hash string
}

type decisionWant struct {
	Calls          []string
	ImageRef       string `json:"image_ref"`
	Reason         string
	Message        string
	Events         []decisionEvent
	BackoffMS      int64  `json:"backoff_ms"`
	InBackoff      bool   `json:"in_backoff"`
	CredentialUsed string `json:"credential_used"`
}

type decisionEvent struct{ Type, Reason, Message string }

// vectors reads one of the tables.
func vectors[T any](t *testing.T, name string) []T {
	t.Helper()
	return readVectors[[]T](t, name)
}

func readVectors[T any](t *testing.T, name string) T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	require.NoError(t, err)
	var out T
	require.NoError(t, json.Unmarshal(data, &out))
	return out
}

// allKubelet sets every field.
func allKubelet() Kubelet {
	return Kubelet{true, true, true, true, true, true, true, true, true}
}

// With every field of Config.Kubelet set, a Puller decides each case as the kubelet does.
func TestDecisionsAsKubelet(t *testing.T) {
	ran := 0
	for _, c := range vectors[decisionCase](t, "decisions.json") {
		t.Run(c.Name, func(t *testing.T) { runDecision(t, c, allKubelet()) })
		ran++
	}
	assert.Equal(t, 102, ran)
}

// ourWay has the cases in which a Puller by default decides otherwise than the kubelet.
// For each case it names the test of the Puller's decision.
var ourWay = map[string]func(*testing.T){
	"empty policy is treated like Always only for the inspect step: no inspect, pull":                TestAnEmptyPolicyMeansTheDefault,
	"a rate-limit answer does not stop the loop either":                                              TestNoOtherCredentialIsTriedAfterARateLimit,
	"RegistryUnavailable from the second of two credentials: only the aggregate's own prefix counts": TestTheGravestAnswerGivesTheReason,
	"RegistryUnavailable from both credentials: the list bracket hides the prefix":                   TestTheGravestAnswerGivesTheReason,
	"a secret that is not JSON fails the lookup: untyped error, no event, no back-off":               TestAMalformedSecretIsSkipped,
	"the key uses the name as written: x and x:latest do not share a back-off":                       TestAllSpellingsOfANameShareOneWindow,
	"two spellings of one Docker Hub image do not share a back-off":                                  TestAllSpellingsOfANameShareOneWindow,
	"new credentials do not end the back-off":                                                        TestARepairedSecretIsTriedWithinTheWindow,
	"a success does not reset the streak: the next failure within 600 s doubles":                     TestASuccessEndsTheStreak,
	// In this case the other name appears in the store without a pull, after the first name.
	"the same content under another repository name must be proved again":                          TestPreloadedImagesStayUsable,
	"a malformed secret with verification on and the image recorded for a secret: error, no event": TestAMalformedSecretProvesNothing,
}

// By default a Puller decides each case as the kubelet does, except the cases of ourWay.
func TestDecisionsByDefault(t *testing.T) {
	ran, ours := 0, 0
	for _, c := range vectors[decisionCase](t, "decisions.json") {
		differs := slices.ContainsFunc(c.Tags, func(tag string) bool {
			return tag == "quirk" || strings.HasPrefix(tag, "divergence:")
		})
		if differs || ourWay[c.Name] != nil {
			assert.NotNil(t, ourWay[c.Name], "%q has no test of its own", c.Name)
			ours++
			continue
		}
		t.Run(c.Name, func(t *testing.T) { runDecision(t, c, Kubelet{}) })
		ran++
	}
	assert.Equal(t, 91, ran)
	assert.Equal(t, len(ourWay), ours)
}

// A decider runs the steps of one case.
type decider struct {
	t       *testing.T
	c       decisionCase
	kubelet Kubelet
	dir     string     // of the records, if they are on disk
	records memRecords // if they are in memory
	runtime *fakeRuntime
	puller  *Puller
	events  []Event
	node    *fakeKeyring // of the step
}

func runDecision(t *testing.T, c decisionCase, kubelet Kubelet) {
	dir := ""
	if rounds.All() {
		dir = t.TempDir()
	}
	synctest.Test(t, func(t *testing.T) {
		d := &decider{t: t, c: c, kubelet: kubelet, dir: dir, runtime: &fakeRuntime{store: map[string]string{}}}
		for name, id := range c.Store {
			d.runtime.store[name] = id
		}
		d.restart()
		start := time.Now()
		for i, s := range c.Steps {
			time.Sleep(time.Until(start.Add(time.Duration(s.At) * time.Millisecond)))
			d.step(i, s)
		}
	})
}

// restart makes a new Puller with the same store and records.
func (d *decider) restart() {
	c := d.c.Config
	config := Config{
		Runtime: d.runtime,
		Keyring: podKeyring{func(credentials.Pod) credentials.Keyring { return d.node }},
		QPS:     c.QPS, Burst: c.Burst, Parallel: -1,
		Backoff: backoff.Config{Initial: time.Duration(c.Initial) * time.Millisecond, Max: time.Duration(c.Max) * time.Millisecond},
		Kubelet: d.kubelet,
		Events:  func(e Event) { d.events = append(d.events, e) },
	}
	if c.QPS > 0 && c.Burst == 0 {
		config.Burst = -1
	}
	if c.Serialized {
		config.Parallel = 1
	}
	if c.Verify != "" {
		config.Records = &d.records
		if rounds.All() { // records on disk take longer
			dir, err := records.Open(d.dir)
			require.NoError(d.t, err)
			d.t.Cleanup(func() { dir.Close() })
			config.Records = dir
		}
		var err error
		config.Verify, err = pullpolicy.NewVerification(pullpolicy.VerificationPolicy(c.Verify), c.Allowlist...)
		require.NoError(d.t, err)
	}
	p, err := New(config)
	require.NoError(d.t, err)
	d.puller = p
}

func (d *decider) step(i int, s decisionStep) {
	id, _ := strings.CutPrefix(s.Backend["anonymous"], "ok:")
	switch s.Op {
	case "ensure":
		d.ensure(i, s)
	case "restart":
		d.restart()
	case "preload":
		d.runtime.store[s.Image] = id
	case "crash_during_pull":
		task, unusable := d.puller.newTask(Request{Image: s.Image})
		require.Nil(d.t, unusable)
		_, err := d.puller.access.begin(d.t.Context(), task)
		require.NoError(d.t, err)
		d.runtime.store[s.Image] = id
		d.restart()
	default:
		d.t.Fatalf("step %d: unknown op %q", i, s.Op)
	}
}

// request returns the step's request. The step's secrets are in the Pod's keyring, and its
// other credentials are in the node's keyring.
func (d *decider) request(s decisionStep) Request {
	req := Request{Image: s.Image, Policy: pullpolicy.Policy(s.Policy), Pod: credentials.Pod{UID: s.Pod}}
	pod := &fakeKeyring{}
	d.node = &fakeKeyring{}
	for _, c := range s.Credentials {
		cred := node(c.ID)
		switch c.Kind {
		case "secret":
			cred = secret(c.ID, c.Hash)
			cred.Origin.Namespace, cred.Origin.Name, cred.Origin.UID = c.Namespace, c.Name, c.UID
			pod.creds = append(pod.creds, cred)
			continue
		case "serviceaccount":
			cred.Origin.Kind = credentials.KindPlugin
			cred.Origin.ServiceAccount = credentials.ServiceAccount{Namespace: c.Namespace, Name: c.Name, UID: c.UID}
			req.Pod.ServiceAccount = cred.Origin.ServiceAccount
		}
		d.node.creds = append(d.node.creds, cred)
	}
	if s.LookupError != "" {
		pod.problem = errors.New("unexpected end of JSON input")
	}
	req.Keyring = pod
	return req
}

func (d *decider) ensure(i int, s decisionStep) {
	t, r := d.t, d.runtime
	r.inspectErr = nil
	if s.InspectError != "" {
		r.inspectErr = errors.New(s.InspectError)
	}
	r.pull = func(_ context.Context, spec Spec) (string, error) {
		answer := s.Backend[credentialID(spec.Credential)]
		if id, ok := strings.CutPrefix(answer, "ok:"); ok {
			return id, nil
		}
		return "", textError(strings.TrimPrefix(answer, "error:"))
	}
	req := d.request(s)

	said, err := d.puller.Explain(t.Context(), req)
	require.NoError(t, err)
	for _, call := range r.took() {
		assert.False(t, strings.HasPrefix(call, "pull "), "step %d: Explain must not pull", i)
	}
	assert.Empty(t, d.events, "step %d: Explain has no events", i)

	r.used = nil
	img, err := d.puller.Pull(t.Context(), req)
	calls, events := r.took(), d.events
	d.events = nil

	want := s.Want
	assert.Equal(t, want.Calls, calls, "step %d", i)
	assert.Equal(t, want.Reason, reasonOf(t, err), "step %d: %v", i, err)
	assert.Equal(t, want.ImageRef, img.ID, "step %d", i)
	d.checkEvents(i, s, events)
	d.checkMessage(i, s, err)
	if want.CredentialUsed != "" {
		assert.Equal(t, []string{want.CredentialUsed}, r.used, "step %d", i)
	}
	key := backoffKey{}
	if task, unusable := d.puller.newTask(req); unusable == nil {
		key = task.key
	}
	assert.Equal(t, time.Duration(want.BackoffMS)*time.Millisecond, d.puller.backoff.state(key, nil).Delay, "step %d", i)
	assert.Equal(t, want.InBackoff, !d.puller.backoff.state(key, nil).mayTry(), "step %d", i)
	checkSaid(t, i, said, calls, err)
}

// reasonOf returns the reason as the table writes it: "Other" for an error without a
// reason.
func reasonOf(t *testing.T, err error) string {
	if err == nil {
		return ""
	}
	var e *Error
	require.ErrorAs(t, err, &e)
	if e.Reason == "" {
		return "Other"
	}
	assert.ErrorIs(t, err, e.Reason)
	return string(e.Reason)
}

var durations = regexp.MustCompile(`in [0-9a-zµ.]+ \([0-9a-zµ.]+ including waiting\)`)

func (d *decider) checkEvents(i int, s decisionStep, events []Event) {
	got := []decisionEvent{}
	for _, e := range events {
		assert.Equal(d.t, s.Image, e.Image)
		assert.Equal(d.t, s.Pod, e.Pod.UID)
		if e.Reason == EventAttempt || e.Reason == EventBadSecret {
			continue // the kubelet has no such events
		}
		text := durations.ReplaceAllString(e.Message, "in {pull_duration} ({total_duration} including waiting)")
		if e.Reason == EventInspectFailed {
			// The kubelet has other words for a malformed name, and its error of a failed
			// inspection is about the image "".
			text = ""
		}
		got = append(got, decisionEvent{string(e.Type), string(e.Reason), text})
	}
	want := slices.Clone(s.Want.Events)
	for j := range want {
		if want[j].Reason == string(EventInspectFailed) {
			want[j].Message = ""
		}
	}
	assert.Equal(d.t, want, got, "step %d", i)
}

func (d *decider) checkMessage(i int, s decisionStep, err error) {
	var e *Error
	if !errors.As(err, &e) {
		return
	}
	want := s.Want.Message
	switch e.Reason {
	case ErrInvalidImageName:
		return
	case ErrImageInspect:
		want = strings.Replace(want, `image ""`, `image "`+s.Image+`"`, 1)
	case "":
		return // the kubelet has no reason, and the message is only the cause
	}
	assert.Equal(d.t, want, e.Message(), "step %d", i)
}

// checkSaid checks that Pull did what Explain said before.
func checkSaid(t *testing.T, i int, said Decision, calls []string, err error) {
	var pulled []string // with which credentials
	for _, call := range calls {
		if _, who, ok := strings.Cut(call, " with "); ok {
			pulled = append(pulled, who)
		}
	}
	switch said.Action {
	case ActionUse:
		assert.NoError(t, err, "step %d: Explain said use", i)
		assert.Empty(t, pulled, "step %d: Explain said use", i)
	case ActionWait, ActionFail:
		assert.Empty(t, pulled, "step %d: Explain said %s", i, said.Action)
		var e *Error
		require.ErrorAs(t, err, &e, "step %d: Explain said %s", i, said.Action)
		assert.Equal(t, said.Reason, e.Reason, "step %d: Explain said %s", i, said.Action)
	case ActionPull:
		assert.Empty(t, said.Reason)
		var order []string
		for _, c := range said.Candidates {
			if c.Order > 0 {
				order = append(order, c.Key)
			}
		}
		if len(order) == 0 {
			order = []string{"anonymous"}
		}
		require.NotEmpty(t, pulled, "step %d: Explain said pull", i)
		assert.Equal(t, order[:len(pulled)], pulled, "step %d: the order of candidates", i)
		if err != nil {
			assert.Len(t, pulled, len(order), "step %d: all are tried before it fails", i)
		}
	default:
		t.Errorf("step %d: Explain said %q", i, said.Action)
	}
	_, jsonErr := json.Marshal(said)
	assert.NoError(t, jsonErr)
	assert.NotContains(t, said.String(), "password-of-")
}
