package puller

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/redact"
)

// An EventType says whether an event needs somebody's attention.
type EventType string

// The types of events, as Kubernetes spells them.
const (
	Normal  EventType = "Normal"
	Warning EventType = "Warning"
)

// The reasons of events. All but the last three are the kubelet's, with the
// kubelet's messages.
const (
	EventPulling       = "Pulling"           // the registry is going to be asked
	EventPulled        = "Pulled"            // the image is there; or was already
	EventFailed        = "Failed"            // the registry was asked, and no credential helped
	EventBackOff       = "BackOff"           // not tried: the image failed a short while ago
	EventNeverPull     = "ErrImageNeverPull" // absent, and the policy is Never
	EventInspectFailed = "InspectFailed"     // the name is malformed, or the store could not tell
	// EventBadSecret says that a pull secret had to be left out. It follows EventFailed,
	// and only where the pull failed with ErrImagePull, as in the kubelet from 1.37 on.
	EventBadSecret = "FailedToRetrieveImagePullSecret"

	// EventAttempt says that one credential did not help or, where Attempt.Source is
	// set, that a helper, a plugin or a Secret of another namespace gave none. If
	// something else helps, this is all that is told of it.
	EventAttempt  = "AttemptFailed"
	EventProgress = "Progress"     // Progress says how far the transfer is
	EventRecord   = "RecordFailed" // who may use the image could not be written down
)

// An Event is one thing that happened during a call of a Puller. It holds no
// secret. Its JSON form is stable: fields are added, not changed.
type Event struct {
	Time    time.Time
	Call    uint64 // the same for all events of one call, other than those of any other
	Type    EventType
	Reason  string // one of the constants
	Message string // for people; "" for EventProgress
	Image   string // as written in the request, without user:password@
	Pod     credentials.Pod
	// Platform is the one pulled for, as index.FormatPlatform writes it; "" where
	// the call ended before that was known.
	Platform string
	// Digest is that of what the name points to; set with EventPulled.
	Digest digest.Digest
	// Shared says that the call does not pull itself, but waits for the same pull
	// of another call. Its progress is that of the other.
	Shared bool
	// RetryAfter is set with EventFailed and EventBackOff.
	RetryAfter time.Duration
	// Attempt is what a credential met with: set with EventAttempt, with
	// EventBadSecret, and with EventPulled if the registry was asked. An EventPulled
	// without it means that the image was present already.
	Attempt  *Answer
	Progress *Progress // set with EventProgress
}

// eventJSON is the form of an Event on the wire.
type eventJSON struct {
	Time       time.Time     `json:"time"`
	Call       uint64        `json:"call"`
	Type       EventType     `json:"type"`
	Reason     string        `json:"reason"`
	Message    string        `json:"message,omitempty"`
	Image      string        `json:"image"`
	Pod        *podJSON      `json:"pod,omitempty"`
	Platform   string        `json:"platform,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	Shared     bool          `json:"shared,omitempty"`
	RetryAfter float64       `json:"retryAfterSeconds,omitempty"`
	Attempt    *Answer       `json:"attempt,omitempty"`
	Progress   *Progress     `json:"progress,omitempty"`
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

// MarshalJSON writes e as one object; fields that are not set are left out.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(eventJSON{
		Time: e.Time, Call: e.Call, Type: e.Type, Reason: e.Reason, Message: e.Message,
		Image: e.Image, Pod: newPodJSON(e.Pod), Platform: e.Platform, Digest: e.Digest, Shared: e.Shared,
		RetryAfter: e.RetryAfter.Seconds(), Attempt: e.Attempt, Progress: e.Progress,
	})
}

// emit tells Config.Events, if anybody listens.
func (p *Puller) emit(t *task, e Event) {
	if p.config.Events == nil {
		return
	}
	e.Time, e.Call, e.Image, e.Pod = time.Now(), t.call, t.req.Image, t.req.Pod
	if e.Type == "" {
		e.Type = Normal
	}
	if !isZeroPlatform(t.platform) {
		e.Platform = index.FormatPlatform(t.platform)
	}
	p.config.Events(e)
}

func (p *Puller) emitError(t *task, reason string, err *Error) {
	p.emit(t, Event{Type: Warning, Reason: reason, Message: err.Message()})
}

func (p *Puller) emitPresent(t *task, img Image) {
	text := fmt.Sprintf("Container image %q already present on machine", cutText(t.req.Image))
	if p.guard != nil {
		text += " and can be accessed by the pod"
	}
	p.emit(t, Event{Reason: EventPulled, Message: text, Digest: img.Digest})
}

func (p *Puller) emitPulling(t *task, shared bool) {
	p.emit(t, Event{Reason: EventPulling, Message: fmt.Sprintf("Pulling image %q", cutText(t.req.Image)), Shared: shared})
}

func (p *Puller) emitPulled(t *task, shared bool, r result) {
	text := fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.",
		cutText(t.req.Image), r.took.Truncate(time.Millisecond), time.Since(t.started).Truncate(time.Millisecond), r.image.Size)
	p.emit(t, Event{Reason: EventPulled, Message: text, Digest: r.image.Digest, Shared: shared, Attempt: r.answer})
}

func (p *Puller) emitFailed(t *task, shared bool, err *Error) {
	text := fmt.Sprintf("Failed to pull image %q: %s", cutText(t.req.Image), err.text())
	p.emit(t, Event{Type: Warning, Reason: EventFailed, Message: text, RetryAfter: err.RetryAfter, Shared: shared})
}

func (p *Puller) emitBackOff(t *task, err *Error) {
	text := fmt.Sprintf("Back-off pulling image %q", cutText(t.req.Image))
	p.emit(t, Event{Reason: EventBackOff, Message: text, RetryAfter: err.RetryAfter})
}

// emitProblems reports the pull secrets that had to be left out, after a pull that
// failed: one of them may be the reason.
func (p *Puller) emitProblems(t *task) {
	if p.config.Events == nil {
		return
	}
	for _, a := range t.ring.problemsFor(t.ref) {
		answer := newAnswer(a)
		text := fmt.Sprintf("Unable to use a pull secret (%s); attempting to pull the image may not succeed.", redact.Text(a.String()))
		p.emit(t, Event{Type: Warning, Reason: EventBadSecret, Message: text, Attempt: &answer})
	}
}
