package puller

import (
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/pullpolicy"
)

// An Action is what Pull would do.
type Action string

// The actions.
const (
	ActionUse  Action = "use"  // take what is in the store
	ActionPull Action = "pull" // ask the registry; what it answers is not known before
	ActionWait Action = "wait" // fail with ImagePullBackOff
	ActionFail Action = "fail" // fail with Decision.Reason, without asking the registry
)

// What Explain says of the store.
const (
	StorePresent  = "present"
	StoreAbsent   = "absent"
	StoreNotAsked = "not asked"
	StoreNotYours = "present, but not for this Pod"
	StoreUnknown  = "unknown"
)

// A Decision is what Pull would do with a request, and why. It holds no secret,
// but is for those who run the node: it tells what is in the store and which
// credentials there are. String makes a text of it for people; its JSON form is
// stable: fields are added, not changed.
type Decision struct {
	Image      string        `json:"image"` // as written, without user:password@
	Registry   string        `json:"registry,omitempty"`
	Repository string        `json:"repository,omitempty"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	Platform   string        `json:"platform,omitempty"`

	Policy    pullpolicy.Policy `json:"policy,omitempty"`
	PolicyWhy string            `json:"policyWhy,omitempty"`
	Store     string            `json:"store"`              // one of the constants StorePresent...
	StoreWhy  string            `json:"storeWhy,omitempty"` // what the store or the records said

	Action Action `json:"action"`
	// Reason is what Pull would fail with; "" where it would not, or where only the
	// registry can tell.
	Reason Reason `json:"reason,omitempty"`
	Why    string `json:"why,omitempty"` // of Action fail

	// BackOff is set where the registry would be asked.
	BackOff *Window `json:"backOff,omitempty"`
	// Candidates are in the order in which they would be tried, and between them
	// those that would not be.
	Candidates []Candidate `json:"candidates,omitempty"`
	// Skipped is how many more than are listed would not be tried.
	Skipped int `json:"skipped,omitempty"`

	// Attempts are those that Explain made itself to read the index, and the sources
	// that could not answer meanwhile; the one without an Error succeeded. Nil if the registry was not asked: where the
	// Action is not to pull, or the Runtime is no Planner.
	Attempts []Answer `json:"attempts,omitempty"`
	// Resolved is the digest of what the name points to, Manifest that of the
	// platform's manifest; "" if the registry was not asked, or did not tell.
	Resolved digest.Digest `json:"resolved,omitempty"`
	Manifest digest.Digest `json:"manifest,omitempty"`
	// Index lists the entries of the index, if the name points to one.
	Index []Entry `json:"index,omitempty"`
	// Fetch are the blobs that would be fetched, Present those that are stored already.
	Fetch   []ocispec.Descriptor `json:"fetch,omitempty"`
	Present []ocispec.Descriptor `json:"present,omitempty"`
}

// A Window is the state of an image's back-off.
type Window struct {
	Key      string        // whom it is kept for, for people
	Failures int           // in a row
	Wait     time.Duration // until the next try; 0 = now
	Repaired bool          // a try is allowed all the same, since the secrets are new
	Previous string        // the failure it lasts for; "" if there is none
}

// MarshalJSON writes w as one object, with Wait in seconds.
func (w Window) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Key      string  `json:"key"`
		Failures int     `json:"failures"`
		Wait     float64 `json:"waitSeconds"`
		Repaired bool    `json:"repaired,omitempty"`
		Previous string  `json:"previous,omitempty"`
	}{w.Key, w.Failures, w.Wait.Seconds(), w.Repaired, w.Previous})
}

// A Candidate is one credential, or the source of some, that was considered.
type Candidate struct {
	Order     int                `json:"order,omitempty"` // 1 is tried first; 0 = not tried
	Origin    credentials.Origin `json:"-"`
	From      string             `json:"from"` // Origin, for people
	Kind      credentials.Kind   `json:"kind,omitempty"`
	Namespace string             `json:"namespace,omitempty"`
	Name      string             `json:"name,omitempty"`
	Key       string             `json:"key,omitempty"`
	Username  string             `json:"username,omitempty"` // "" where it is not known before a program has run
	Why       string             `json:"why,omitempty"`
}

// An Entry is one manifest of an index.
type Entry struct {
	Digest   digest.Digest `json:"digest"`
	Platform string        `json:"platform"`
	Chosen   bool          `json:"chosen,omitempty"`
	Why      string        `json:"why,omitempty"`
}
