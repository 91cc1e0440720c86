package puller

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
)

// An AccessCheck has what Config.Records say about a present image, and whether the Pod
// may therefore use it. It names Secrets and service accounts, but it holds no password
// and no token.
type AccessCheck struct {
	// Verify is the policy that says whether a Pod must show that it may use the image.
	Verify pullpolicy.VerificationPolicy `json:"verify"`
	// Pulled reports whether the records know of a pull that brought the image. If they know
	// of none, the image is preloaded.
	Pulled bool `json:"pulled"`
	// ID is the ID of the image, under which its record is kept.
	ID string `json:"id"`
	// Name is the name of the image under which the record is searched for access.
	Name string `json:"name"`
	// Recorded reports whether there is a record of the image.
	Recorded bool `json:"recorded"`
	// Updated is when the record was last written.
	Updated time.Time `json:"updated,omitzero"`
	// Names are the names of the image in the record, sorted, at most 100.
	Names []string `json:"names,omitempty"`
	// Everybody says that the record lets every Pod use the image under Name. Secrets and
	// ServiceAccounts are those whose Pods may use it. They are written as namespace/name
	// (uid).
	Everybody       bool     `json:"everybody,omitempty"`
	Secrets         []string `json:"secrets,omitempty"`
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`
	// Matched is the Secret or the service account of the Pod that lets the Pod use the
	// image. It is "" if the Pod has no such Secret or account, or needs none.
	Matched string `json:"matched,omitempty"`
	// Error says why the records could not be read; "" if they were read.
	Error string `json:"error,omitempty"`
	// Change says what would let the Pod use the image: one or several ways, with "; "
	// between them. It is "" if the Pod may use the image.
	Change string `json:"change,omitempty"`
}

// maxNames is how many names of a record an AccessCheck lists at most.
const maxNames = 100

// setRecord sets the fields that come from the record of the image. held is the access
// that the record has for a.Name.
func (a *AccessCheck) setRecord(rec records.Record, known bool, held records.Access) {
	a.Pulled = known
	a.Recorded = rec.ID != "" || len(rec.Names) > 0
	a.Updated = rec.Updated
	for name := range rec.Names {
		a.Names = append(a.Names, redact.Text(name))
	}
	slices.Sort(a.Names)
	a.Names = a.Names[:min(len(a.Names), maxNames)]
	a.Everybody = held.Everybody
	for _, s := range held.Secrets {
		a.Secrets = append(a.Secrets, objectText(s.Namespace, s.Name, s.UID))
	}
	for _, s := range held.ServiceAccounts {
		a.ServiceAccounts = append(a.ServiceAccounts, accountText(s))
	}
}

func accountText(s credentials.ServiceAccount) string { return objectText(s.Namespace, s.Name, s.UID) }

// objectText returns the text for an object of a cluster: namespace/name (uid).
func objectText(namespace, name, uid string) string {
	text := namespace + "/" + name
	if uid != "" {
		text += " (" + uid + ")"
	}
	return redact.Cut(redact.Text(text), maxName)
}

// finish sets Change, if the answer does not let the Pod use the image, and removes what
// must not be printed.
func (a *AccessCheck) finish(t *task, answer accessAnswer) *AccessCheck {
	a.Name, a.ID = redact.Text(a.Name), redact.Text(a.ID)
	if answer.granted {
		return a
	}
	var ways []string
	if a.Error != "" {
		ways = append(ways, "a record that can be read (a pull under Always writes one, if the old one is removed)")
	}
	if len(a.Secrets) > 0 {
		ways = append(ways, "one of these Secrets among the imagePullSecrets of the Pod, or a Secret with the same content")
	}
	if len(a.ServiceAccounts) > 0 {
		ways = append(ways, "one of these service accounts for the Pod")
	}
	pull := "a pull of " + a.Name + " that succeeds with a credential of the Pod"
	if t.policy == pullpolicy.Never {
		pull += ", which imagePullPolicy Never forbids"
	}
	ways = append(ways, pull, "a pull of it without a credential or with one of the node, for all Pods")
	if a.Verify != pullpolicy.NeverVerify {
		ways = append(ways, fmt.Sprintf("the policy %s, or %s with %s on its list, for all Pods", pullpolicy.NeverVerify, pullpolicy.NeverVerifyAllowlistedImages, a.Name))
	}
	a.Change = strings.Join(ways, "; ")
	return a
}

// text writes the lines about the records for Decision.String.
func (a *AccessCheck) text(b *lines) {
	if a == nil {
		return
	}
	pulled := "preloaded: no pull of it is known"
	switch {
	case a.Pulled:
		pulled = "a pull of it is known"
	case a.Error != "":
		pulled = "it is not known whether a pull brought it"
	}
	b.line("records", fmt.Sprintf("%-19s (%s)", a.Verify, pulled))
	if a.Error != "" {
		b.line("  error", a.Error)
	}
	record := "none"
	switch {
	case a.Recorded:
		record = "found"
	case a.Error != "":
		record = "not read"
	}
	if !a.Updated.IsZero() {
		record += ", last written at " + a.Updated.UTC().Format(time.RFC3339)
	}
	b.line("  of", redact.Cut(a.ID, maxName)+brackets(record))
	under := a.Name
	if a.Error == "" && !slices.Contains(a.Names, a.Name) {
		under += brackets("the record has " + orNone(a.Names))
	}
	b.line("  under", under)
	if a.Everybody {
		b.line("  lets", "every Pod use it")
	}
	if len(a.Secrets) > 0 {
		b.line("  secrets", orNone(a.Secrets))
	}
	if len(a.ServiceAccounts) > 0 {
		b.line("  accounts", orNone(a.ServiceAccounts))
	}
	if a.Matched != "" {
		b.line("  matched", a.Matched)
	}
	for i, way := range strings.Split(a.Change, "; ") {
		key := ""
		if i == 0 {
			key = "  to change"
		}
		if way != "" {
			b.line(key, way)
		}
	}
}

// orNone returns the first five texts of a list, and the number of the others; "none" for
// an empty list.
func orNone(texts []string) string {
	const few = 5
	if len(texts) == 0 {
		return "none"
	}
	if more := len(texts) - few; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(texts[:few], ", "), more)
	}
	return strings.Join(texts, ", ")
}
