package puller

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// The types of events, as Kubernetes spells them.
const (
	typeNormal  = "Normal"
	typeWarning = "Warning"
)

// An EventReason says what an event is about.
type EventReason string

// The reasons of events. The first seven are the kubelet's, with the kubelet's messages.
const (
	EventPulling       EventReason = "Pulling"           // the registry is going to be asked
	EventPulled        EventReason = "Pulled"            // the image was pulled, or was present already
	EventFailed        EventReason = "Failed"            // no credential helped at the registry; or a present image was not admitted
	EventBackOff       EventReason = "BackOff"           // the registry is not asked before the back-off window ends
	EventNeverPull     EventReason = "ErrImageNeverPull" // the image is absent, and the policy is Never
	EventInspectFailed EventReason = "InspectFailed"     // the name is malformed, or the store failed
	// EventBadSecret says that a pull secret could not be used. It follows EventFailed or
	// EventResolveFailed if their reason is ErrImagePull, as in the kubelet from 1.37 on.
	EventBadSecret EventReason = "FailedToRetrieveImagePullSecret"

	// EventAttempt says that one credential did not help. If Attempt.SourceFailed is set, it
	// says that a helper or a plugin gave no credential, or that a Secret was not used
	// because it is of another namespace. If another credential succeeds, this event is the
	// only report of that failure.
	EventAttempt  EventReason = "AttemptFailed"
	EventProgress EventReason = "Progress"     // Progress says how far the transfer is
	EventRecord   EventReason = "RecordFailed" // the records could not be written

	// EventHint names a possible cause why no credential helped: a helper that was not asked,
	// a Secret of another type, a key with another port or path, an entry of the node that
	// was left out, or a login that looks mistyped. If the reason is ErrImagePull, one
	// EventHint for each of Error.Hints comes before EventFailed or EventResolveFailed.
	EventHint EventReason = "CredentialHint"

	EventResolved      EventReason = "Resolved"      // Resolve or Find has the digest of the image
	EventResolveFailed EventReason = "ResolveFailed" // Resolve or Find failed
)

// An Event is one thing that happened during a call of a Puller. It holds no
// secret. Its JSON form is stable: fields are added, not changed.
type Event struct {
	Time    time.Time
	Call    uint64 // the number of the call; no two calls of a Puller have the same
	Type    string // "Normal", or "Warning" if the event may need an operator's attention
	Reason  EventReason
	Message string // human-readable; "" for EventProgress
	Image   string // as written in the request, without user:password@
	Pod     credentials.Pod
	// Platform is the platform that the image is pulled for, as index.FormatPlatform writes
	// it; "" if the call ended before the platform was known.
	Platform string
	// Policy is the pull policy that the call follows; "" if the call ended before the policy
	// was known.
	Policy pullpolicy.Policy
	// Store says whether the store had the image when the attempt started. It is set with the
	// event that ends an attempt: EventPulled, EventFailed, EventBackOff, EventNeverPull or
	// EventInspectFailed. An EventInspectFailed for a malformed name has no Store. The
	// EventBackOff that PullWait sends after EventFailed has none either, because it ends no
	// attempt.
	Store StoreState
	// Digest is the digest of what the name points to; set with EventPulled and
	// EventResolved.
	Digest digest.Digest
	// AdmittedBy is as in Image: which program, key or rule admitted the image; set with
	// EventPulled.
	AdmittedBy string
	// Size is the size of the image in bytes, as in Image.Size; set with EventPulled.
	Size int64
	// Took is how long the pull took, without the time that it waited for its turn. It is
	// set with EventPulled if the registry was asked.
	Took time.Duration
	// Shared says that the call waits for an equal pull that another call has started. The
	// progress is that of the shared pull.
	Shared bool
	// RetryAfter is for how long no new attempt is made; set with EventFailed and
	// EventBackOff. With EventResolveFailed it is for how long the registry asked to wait.
	RetryAfter time.Duration
	// Attempt is the answer to one credential. It is set with EventAttempt, with
	// EventBadSecret and EventHint, and with EventPulled and EventResolved if the registry
	// was asked. An EventPulled without it means that the image was present already.
	Attempt  *Answer
	Progress *Progress // set with EventProgress
}

// eventJSON is the JSON form of an Event.
type eventJSON struct {
	Time       time.Time         `json:"time"`
	Call       uint64            `json:"call"`
	Type       string            `json:"type"`
	Reason     EventReason       `json:"reason"`
	Message    string            `json:"message,omitempty"`
	Image      string            `json:"image"`
	Pod        *podJSON          `json:"pod,omitempty"`
	Platform   string            `json:"platform,omitempty"`
	Policy     pullpolicy.Policy `json:"policy,omitempty"`
	Store      StoreState        `json:"store,omitempty"`
	Digest     digest.Digest     `json:"digest,omitempty"`
	Size       int64             `json:"size,omitempty"`
	Took       float64           `json:"tookSeconds,omitempty"`
	AdmittedBy string            `json:"admittedBy,omitempty"`
	Shared     bool              `json:"shared,omitempty"`
	RetryAfter float64           `json:"retryAfterSeconds,omitempty"`
	Attempt    *Answer           `json:"attempt,omitempty"`
	Progress   *Progress         `json:"progress,omitempty"`
}

type podJSON struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
}

func newPodJSON(p credentials.Pod) *podJSON {
	if p.Namespace == "" && p.Name == "" && p.UID == "" {
		return nil
	}
	return &podJSON{p.Namespace, p.Name, p.UID}
}

// MarshalJSON writes e as one JSON object, without the fields that are not set. Durations
// are in seconds.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(eventJSON{
		Time: e.Time, Call: e.Call, Type: e.Type, Reason: e.Reason, Message: e.Message,
		Image: e.Image, Pod: newPodJSON(e.Pod), Platform: e.Platform,
		Policy: e.Policy, Store: e.Store, Digest: e.Digest, Size: e.Size, Took: e.Took.Seconds(), AdmittedBy: e.AdmittedBy, Shared: e.Shared,
		RetryAfter: e.RetryAfter.Seconds(), Attempt: e.Attempt, Progress: e.Progress,
	})
}

// A reporter sends the events of calls to Config.Events.
type reporter struct {
	send          func(Event) // nil: Config has no Events
	accessChecked bool        // Config has Records
}

func (r reporter) emit(t *task, e Event) {
	if r.send == nil {
		return
	}
	e.Time, e.Call, e.Image, e.Pod, e.Policy = time.Now(), t.call, t.image, t.pod, t.policy
	if e.Type == "" {
		e.Type = typeNormal
	}
	if !isZeroPlatform(t.platform) {
		e.Platform = index.FormatPlatform(t.platform)
	}
	r.send(e)
}

// outcome sends the event that ends an attempt. If the context ended before the registry
// was asked, no event is sent. For a request that cannot be used, an event is sent only if
// its name is malformed, as in the kubelet.
func (r reporter) outcome(t *task, o outcome) {
	emit := func(e Event) {
		e.Store, e.Shared = o.store, o.shared
		r.emit(t, e)
	}
	switch {
	case o.err == nil && o.present:
		text := fmt.Sprintf("Container image %q already present on machine", t.name)
		if r.accessChecked {
			text += " and can be accessed by the pod"
		}
		emit(Event{Reason: EventPulled, Message: text, Digest: o.image.Digest, Size: o.image.Size, AdmittedBy: o.image.AdmittedBy})
	case o.err == nil:
		text := fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.",
			t.name, o.took.Truncate(time.Millisecond), time.Since(o.began).Truncate(time.Millisecond), o.image.Size)
		emit(Event{Reason: EventPulled, Message: text, Digest: o.image.Digest, Size: o.image.Size, Took: o.took, AdmittedBy: o.image.AdmittedBy, Attempt: o.answer})
	case o.present:
		text := fmt.Sprintf("Failed to admit image %q, which is present on machine: %s", t.name, o.err.text())
		emit(Event{Type: typeWarning, Reason: EventFailed, Message: text, RetryAfter: o.err.RetryAfter})
	case o.asked:
		r.hints(t, o.err)
		text := fmt.Sprintf("Failed to pull image %q: %s", t.name, o.err.text())
		emit(Event{Type: typeWarning, Reason: EventFailed, Message: text, RetryAfter: o.err.RetryAfter})
	case o.err.Reason == ErrImagePullBackOff:
		r.backOff(t, o.store, o.err)
	case o.err.Reason == ErrImageNeverPull:
		emit(Event{Type: typeWarning, Reason: EventNeverPull, Message: o.err.Message()})
	case o.err.Reason == ErrInvalidImageName, o.err.Reason == ErrImageInspect:
		emit(Event{Type: typeWarning, Reason: EventInspectFailed, Message: o.err.Message()})
	}
}

// backOff reports that the image is not tried before the end of a window.
func (r reporter) backOff(t *task, store StoreState, err *Error) {
	text := fmt.Sprintf("Back-off pulling image %q", t.name)
	r.emit(t, Event{Reason: EventBackOff, Message: text, RetryAfter: err.RetryAfter, Store: store})
}

// problems reports the pull secrets that could not be used, after a pull that failed. One
// of them may be the cause.
func (r reporter) problems(t *task) {
	if r.send == nil {
		return
	}
	for _, a := range t.candidates.problems(t.ref) {
		answer := newAnswer(a)
		text := fmt.Sprintf("Unable to use a pull secret (%s); attempting to pull the image may not succeed.", redact.Text(a.String()))
		r.emit(t, Event{Type: typeWarning, Reason: EventBadSecret, Message: text, Attempt: &answer})
	}
}

// hints sends an EventHint for each hint of the error. It is called before the event of
// the failure is sent.
func (r reporter) hints(t *task, err *Error) {
	if r.send == nil || err.Reason != ErrImagePull {
		return
	}
	for _, hint := range err.Hints {
		a := credentials.Attempt{SourceFailed: true, Err: hint}
		var entry *credentials.Error
		if errors.As(hint, &entry) {
			a = credentials.Attempt{Origin: entry.Origin, SourceFailed: !entry.Warning(), Err: entry.Err}
		}
		answer := newAnswer(a)
		text := fmt.Sprintf("A credential for image %q may be missing because of this: %s", t.name, redact.Text(hint.Error()))
		r.emit(t, Event{Type: typeWarning, Reason: EventHint, Message: text, Attempt: &answer})
	}
}

// resolved sends the last events of a call of Resolve or Find that succeeded.
func (r reporter) resolved(t *task, ref reference.Reference, attempts []credentials.Attempt) {
	e := Event{Reason: EventResolved, Message: fmt.Sprintf("Resolved image %q to %s", t.name, ref.Digest()), Digest: ref.Digest()}
	if n := len(attempts); n > 0 {
		r.attemptsToResolve(t, attempts[:n-1])
		answer := newAnswer(attempts[n-1])
		e.Attempt = &answer
	}
	r.emit(t, e)
}

// unresolved sends the last events of a call of Resolve or Find that failed. For a request
// that cannot be used, an event is sent only if its name is malformed, as for a pull.
func (r reporter) unresolved(t *task, err *Error) {
	switch err.Reason {
	case ErrInvalidImageName:
		r.emit(t, Event{Type: typeWarning, Reason: EventInspectFailed, Message: err.Message()})
		return
	case "":
		return
	}
	r.hints(t, err)
	text := fmt.Sprintf("Failed to resolve image %q: %s", t.name, err.text())
	r.emit(t, Event{Type: typeWarning, Reason: EventResolveFailed, Message: text, RetryAfter: err.RetryAfter})
	if err.Reason == ErrImagePull && len(err.Attempts) > 0 {
		r.problems(t)
	}
}

// attemptsToResolve sends an EventAttempt for each credential that did not help to resolve a
// name.
func (r reporter) attemptsToResolve(t *task, attempts []credentials.Attempt) {
	for _, a := range attempts {
		r.attempt(t, false, a, "Failed to resolve image %q %s")
	}
}

func (r reporter) pulling(w *waiter) {
	r.emit(w.task, Event{Reason: EventPulling, Message: fmt.Sprintf("Pulling image %q", w.task.name), Shared: w.shared})
}

// attemptOf sends an EventAttempt for a credential that did not help to pull, to all calls
// that share the pull.
func (r reporter) attemptOf(run *pullRun, a credentials.Attempt) {
	eachListener(run, func(w *waiter) { r.attempt(w.task, w.shared, a, "Failed to pull image %q %s") })
}

// attempt sends an EventAttempt for a credential that did not help, or for a source that
// gave none. format has two verbs: one for the name of the image, and one for the text of
// the Attempt.
func (r reporter) attempt(t *task, shared bool, a credentials.Attempt, format string) {
	if r.send == nil {
		return
	}
	if a.SourceFailed {
		format = "Unable to get a credential for image %q: %s"
	}
	answer := newAnswer(a)
	text := fmt.Sprintf(format, t.name, redact.Text(a.String()))
	r.emit(t, Event{Type: typeWarning, Reason: EventAttempt, Shared: shared, Attempt: &answer, Message: text})
}

// progress returns the function that a Runtime calls with its progress; nil if Config has
// no Events.
func (r reporter) progress(run *pullRun) func(Progress) {
	if r.send == nil {
		return nil
	}
	return func(now Progress) {
		eachListener(run, func(w *waiter) {
			r.emit(w.task, Event{Reason: EventProgress, Shared: w.shared, Progress: &now})
		})
	}
}

// notRecorded sends an EventRecord after the records of a pull could not be written.
func (r reporter) notRecorded(run *pullRun) {
	eachListener(run, func(w *waiter) {
		text := fmt.Sprintf("Access to image %q could not be recorded; its registry will be asked again", w.task.name)
		r.emit(w.task, Event{Type: typeWarning, Reason: EventRecord, Shared: w.shared, Message: text})
	})
}

// admissionNotRecorded sends an EventRecord after the answer of Config.Admission could not
// be written into the records.
func (r reporter) admissionNotRecorded(t *task) {
	text := fmt.Sprintf("The admission of image %q could not be recorded; it will be asked for again after a restart", t.name)
	r.emit(t, Event{Type: typeWarning, Reason: EventRecord, Message: text})
}
