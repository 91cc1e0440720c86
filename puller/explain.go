package puller

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// An Action is what Pull would do.
type Action string

// The actions.
const (
	ActionUse   Action = "use"   // take what is in the store
	ActionCheck Action = "check" // ask Config.Admission, and take what is in the store if that is admitted
	ActionPull  Action = "pull"  // ask the registry, whose answer is not known in advance
	ActionWait  Action = "wait"  // fail with ImagePullBackOff
	ActionFail  Action = "fail"  // fail with Decision.Reason, without asking the registry
)

// A StoreState says whether the store has an image that the Pod may use.
type StoreState string

// The states of the store.
const (
	StorePresent  StoreState = "present"
	StoreAbsent   StoreState = "absent"
	StoreNotAsked StoreState = "not asked"
	StoreNotYours StoreState = "present, but not for this Pod"
	StoreUnknown  StoreState = "unknown"
)

// A Decision says what Pull would do with a request, and why. It holds no secret. It is
// for the operators of the node only, because it names what is in the store and which
// credentials exist. String returns it as readable text. Its JSON form is stable: fields
// are added, not changed.
type Decision struct {
	Image      string        `json:"image"` // as written, without user:password@
	Registry   string        `json:"registry,omitempty"`
	Repository string        `json:"repository,omitempty"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	Platform   string        `json:"platform,omitempty"`
	// RuntimeHandler is that of the request; "" = the default handler.
	RuntimeHandler string `json:"runtimeHandler,omitempty"`

	Policy    pullpolicy.Policy `json:"policy,omitempty"`
	PolicyWhy string            `json:"policyWhy,omitempty"`
	Store     StoreState        `json:"store"`
	StoreWhy  string            `json:"storeWhy,omitempty"` // the answer of the store or the records
	// Access is what the records say about a present image; nil if they were not asked.
	Access *AccessCheck `json:"access,omitempty"`

	Action Action `json:"action"`
	// Reason is the reason with which Pull would fail. It is "" if Pull would not fail, or if
	// the registry decides that.
	Reason Reason `json:"reason,omitempty"`
	Why    string `json:"why,omitempty"` // why Action is ActionFail

	// Admission says what is known about the image and Config.Admission. It is nil without
	// Config.Admission, and if the request is not usable.
	Admission *AdmissionState `json:"admission,omitempty"`

	// BackOff is set if the registry or Config.Admission would be asked.
	BackOff *Window `json:"backOff,omitempty"`
	// Candidates lists credentials in the order in which they would be tried. Those that
	// would not be tried are listed between them.
	Candidates []Candidate `json:"candidates,omitempty"`
	// Skipped is how many more credentials would not be tried, and are not in Candidates.
	Skipped int `json:"skipped,omitempty"`

	// Attempts lists the attempts of Explain itself to read the index, and the sources that
	// could not answer. The attempt without an Error succeeded. Attempts is nil if the
	// registry was not asked, because the Action is not ActionPull or the Runtime is not a
	// Planner.
	Attempts []Answer `json:"attempts,omitempty"`
	// Resolved is the digest of what the name points to. Manifest is the digest of the
	// platform's manifest. Both are "" if the registry was not asked or gave no answer.
	Resolved digest.Digest `json:"resolved,omitempty"`
	Manifest digest.Digest `json:"manifest,omitempty"`
	// Index lists the entries of the index, if the name points to one.
	Index []Entry `json:"index,omitempty"`
	// Fetch lists the blobs that would be fetched. Present lists the blobs that are stored
	// already.
	Fetch   []ocispec.Descriptor `json:"fetch,omitempty"`
	Present []ocispec.Descriptor `json:"present,omitempty"`
}

// An AdmissionState says what is known about the answer of Config.Admission for an image,
// without a question to it.
type AdmissionState struct {
	Policy string `json:"policy,omitempty"` // the Fingerprint of Config.Admission
	// Rule says by which rule Config.Admission would decide; "" if it is not a
	// content.CheckExplainer.
	Rule string `json:"rule,omitempty"`
	// Admitted says that Config.Admission has admitted the stored image. AdmittedBy is then
	// its answer, as in Image.AdmittedBy. Trusted says that the stored image is used without
	// a question, because of Config.TrustPresent. If neither Admitted nor Trusted is set,
	// Config.Admission would be asked.
	Admitted   bool   `json:"admitted,omitempty"`
	AdmittedBy string `json:"admittedBy,omitempty"`
	Trusted    bool   `json:"trusted,omitempty"`
}

// A Window is the state of an image's back-off.
type Window struct {
	Key      string        // what the window is kept for, human-readable
	Failures int           // in a row
	Wait     time.Duration // until the next try; 0 = now
	Repaired bool          // a try is allowed within the window, because the secrets are new
	Previous string        // the failure before the window; "" if there was no failure
}

// MarshalJSON writes w as one JSON object, with Wait in seconds.
func (w Window) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Key      string  `json:"key"`
		Failures int     `json:"failures"`
		Wait     float64 `json:"waitSeconds"`
		Repaired bool    `json:"repaired,omitempty"`
		Previous string  `json:"previous,omitempty"`
	}{w.Key, w.Failures, w.Wait.Seconds(), w.Repaired, w.Previous})
}

// A Candidate is one credential, or one source of credentials, that was considered.
type Candidate struct {
	Order              int    `json:"order,omitempty"` // 1 is tried first; 0 = is not tried
	From               string `json:"from"`            // Origin, human-readable
	credentials.Origin        // zero if the source has no credential
	Username           string `json:"username,omitempty"` // "" if it is not known before a helper or a plugin runs
	// Mirror is the image's name at a mirror, if the credential is for that mirror; otherwise
	// "". A credential for a mirror is not sent to the registry, and has no Order.
	Mirror string `json:"mirror,omitempty"`
	Why    string `json:"why,omitempty"`
}

// String returns From and Why, with a colon between them.
func (c Candidate) String() string { return strings.TrimSuffix(c.From+": "+c.Why, ": ") }

// An Entry is one manifest of an index.
type Entry struct {
	Digest   digest.Digest `json:"digest"`
	Platform string        `json:"platform"`
	Chosen   bool          `json:"chosen,omitempty"`
	Why      string        `json:"why,omitempty"`
}

// Explain returns what Pull would do with the request, and why. It pulls nothing, records
// nothing, counts nothing for the back-off, and sends no events.
//
// As long as nothing changes, Pull decides as the Decision says, except where the answer
// of a registry, a helper or a plugin decides. If Pull would ask the registry and the
// Runtime is a [Planner], Explain reads the index and the manifest from the registry, with
// the credentials that Pull would try. Helpers and plugins may run for that. The error is
// the cause of the end of ctx. All other failures are part of the Decision.
func (p *Puller) Explain(ctx context.Context, req Request) (Decision, error) {
	defer carryPanic()
	t, unusable := p.newTask(req)
	d := Decision{Image: t.image, Store: StoreNotAsked}
	if unusable != nil {
		d.fail(unusable.Reason, unusable.Err)
		return d, nil
	}
	d.Registry, d.Repository, d.Tag, d.Digest = t.ref.Registry(), t.ref.Repository(), t.ref.Tag(), t.ref.Digest()
	d.Platform, d.RuntimeHandler = index.FormatPlatform(t.platform), t.handler
	d.Policy, d.PolicyWhy = t.policy, t.policyWhy
	found, _ := await.Call(ctx, func() storeAnswer { return p.askStore(ctx, t) })
	if ctx.Err() != nil {
		return Decision{}, context.Cause(ctx)
	}
	d.explainStore(t, found)
	await.Call(ctx, func() struct{} { p.explainAdmission(ctx, t, found, &d); return struct{}{} })
	if ctx.Err() != nil {
		return Decision{}, context.Cause(ctx)
	}
	if d.Action != ActionPull && d.Action != ActionCheck {
		return d, nil
	}
	mirrors, ok := await.Call(ctx, func() *mirrorKeys { return p.config.mirrorKeys(ctx, t) })
	if !ok {
		return Decision{}, context.Cause(ctx)
	}
	p.explainFetch(t, mirrors, &d)
	if planner, ok := p.config.Runtime.(Planner); ok && d.Action == ActionPull {
		p.explainPlan(ctx, t, planner, &d)
	}
	if ctx.Err() != nil {
		return Decision{}, context.Cause(ctx)
	}
	return d, nil
}

func (d *Decision) fail(reason Reason, err error) {
	d.Action, d.Reason = ActionFail, reason
	if err != nil {
		d.Why = redact.Text(err.Error())
	}
}

// explainStore sets the fields that depend on the store and the records.
func (d *Decision) explainStore(t *task, f storeAnswer) {
	d.Store = f.state(t)
	if f.err != nil {
		d.fail(f.reason, f.err)
		return
	}
	d.StoreWhy, d.Access = f.access.why, f.access.check
	switch f.action {
	case pullpolicy.Use:
		d.Action = ActionUse
	case pullpolicy.Refuse:
		d.fail(ErrImageNeverPull, nil)
		if d.Why = absentUnderNever; d.Store == StoreNotYours {
			d.Why = notYoursUnderNever
		}
	default:
		d.Action = ActionPull
	}
}

// explainAdmission sets the fields that depend on Config.Admission.
func (p *Puller) explainAdmission(ctx context.Context, t *task, f storeAnswer, d *Decision) {
	if p.admission == nil {
		return
	}
	check := p.config.Admission
	state := &AdmissionState{Policy: redact.Text(check.Fingerprint())}
	if explainer, ok := check.(content.CheckExplainer); ok {
		state.Rule = redact.Text(explainer.Explain(t.ref))
	}
	if f.action == pullpolicy.Use {
		state.AdmittedBy, state.Admitted = p.admission.admitted(ctx, p.admission.key(t, f.image.Digest, f.image.Manifest), f.image.id())
		if state.Trusted = p.config.TrustPresent && !state.Admitted; !state.Trusted && !state.Admitted {
			d.Action = ActionCheck
		}
	}
	d.Admission = state
}

// explainFetch sets the fields that say what delays or prevents a pull, and which
// credentials Pull would try.
func (p *Puller) explainFetch(t *task, mirrors *mirrorKeys, d *Decision) {
	s := p.backoff.state(t.key, t.fingerprint(mirrors))
	d.BackOff = &Window{Key: t.key.String(), Failures: s.Failures, Wait: s.wait, Repaired: s.repaired}
	if s.previous != nil {
		d.BackOff.Previous = string(s.previous.Reason) + ": " + s.previous.cause()
	}
	d.explainCandidates(t)
	d.explainMirrors(t, mirrors)
	switch fault := t.candidates.knownFault(t.ref); {
	case !s.mayTry():
		d.Action, d.Reason = ActionWait, ErrImagePullBackOff
	case d.Action == ActionCheck: // the limits below are limits of pulls
	case p.config.Kubelet.FailOnBadSecret && fault != nil:
		d.fail("", fault)
	case p.rate.empty():
		d.fail(ErrImagePull, errRate)
	}
}

// maxSkipped is how many entries that are not tried are listed at most.
const maxSkipped = 100

// explainCandidates lists the entries of the Pod's and of the node's keyring.
func (d *Decision) explainCandidates(t *task) {
	order, skipped := 0, 0
	tried := map[uint64]bool{} // fingerprints of the Pod's credentials
	type problem struct {
		origin credentials.Origin
		why    string
	}
	listed := map[problem]bool{}
	add := func(ofPod bool, note credentials.Note) {
		c := newCandidate(note)
		switch {
		case note.Err != nil && listed[problem{note.Origin, note.Why}]:
			return // it was listed with the problems of the request's keyring
		case !note.Matched:
		case ofPod:
			if err := t.candidates.foreign(note.Origin); err != nil {
				c.Why, note.Matched = "refused: "+err.Error(), false
			} else if note.Fingerprint != 0 {
				tried[note.Fingerprint] = true
			}
		case tried[note.Fingerprint] && !t.candidates.keepDuplicates:
			c.Why, note.Matched = "matches, but the Pod has the same credential", false
		}
		if note.Matched {
			order++
			c.Order = order
		} else if skipped++; skipped > maxSkipped {
			d.Skipped++
			return
		}
		d.Candidates = append(d.Candidates, c)
	}
	for _, a := range t.candidates.problems(reference.Reference{}) {
		why := "left out: " + a.Err.Error()
		add(true, credentials.Note{Origin: a.Origin, Why: why})
		listed[problem{a.Origin, why}] = true
	}
	explainKeyring(t.candidates.pod, "the request's keyring", t.ref, func(n credentials.Note) { add(true, n) })
	explainKeyring(t.candidates.node, "the node's keyring", t.ref, func(n credentials.Note) { add(false, n) })
}

// explainMirrors lists the entries for the image's names at mirrors.
func (d *Decision) explainMirrors(t *task, mirrors *mirrorKeys) {
	if mirrors == nil {
		return
	}
	for _, name := range mirrors.names {
		add := func(n credentials.Note) {
			if !n.Matched || n.Origin.Key == "" && n.Origin.Kind == credentials.KindStatic || t.candidates.foreign(n.Origin) != nil {
				return
			}
			c := newCandidate(n)
			c.Mirror = name.Name()
			d.Candidates = append(d.Candidates, c)
		}
		explainKeyring(t.candidates.pod, "the request's keyring", name, add)
		explainKeyring(t.candidates.node, "the node's keyring", name, add)
	}
}

func explainKeyring(keyring credentials.Keyring, name string, ref reference.Reference, add func(credentials.Note)) {
	if keyring == nil {
		return
	}
	explainer, ok := keyring.(credentials.Explainer)
	if !ok {
		add(credentials.Note{Matched: true, Why: name + " cannot say what it would yield"})
		return
	}
	for note := range explainer.Explain(ref) {
		add(note)
	}
}

func newCandidate(n credentials.Note) Candidate {
	return Candidate{From: n.Origin.String(), Origin: n.Origin, Username: redact.Text(n.Username), Why: redact.Text(n.Why)}
}

// explainPlan asks the registry what the pull would fetch.
func (p *Puller) explainPlan(ctx context.Context, t *task, planner Planner, d *Decision) {
	plan, attempts, err := askEach(ctx, p, t, planner.Plan)
	if err != nil {
		attempts = err.Attempts // these also have the pull secrets that cannot be used
	}
	for _, a := range attempts {
		d.Attempts = append(d.Attempts, newAnswer(a))
	}
	if err != nil {
		d.Reason, d.Why = err.Reason, err.cause()
		return
	}
	d.Resolved, d.Manifest = plan.Digest, plan.Manifest
	for _, v := range plan.Verdicts {
		d.Index = append(d.Index, newEntry(v))
	}
	d.Fetch, d.Present = plainDescriptors(plan.Fetch), plainDescriptors(plan.Present)
}

func newEntry(v index.Verdict) Entry {
	e := Entry{Digest: v.Descriptor.Digest, Platform: "-", Chosen: v.Chosen, Why: redact.Text(string(v.Reason))}
	if pl := v.Descriptor.Platform; pl != nil {
		e.Platform = redact.Text(index.FormatPlatform(*pl))
	}
	return e
}

// plainDescriptors returns the descriptors with media type, digest and size only, because
// the author of the manifest can write anything into the other fields.
func plainDescriptors(in []ocispec.Descriptor) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, d := range in {
		out = append(out, ocispec.Descriptor{MediaType: redact.Text(d.MediaType), Digest: d.Digest, Size: d.Size})
	}
	return out
}

// String returns a readable text of several lines. Programs should use the fields, because
// the text may change.
func (d Decision) String() string {
	var b lines
	b.line("image", redact.Cut(d.Image, maxName))
	if d.Repository != "" {
		b.line("  parsed", fmt.Sprintf("host %s  repository %s  tag %s  digest %s", d.Registry, d.Repository, dash(d.Tag), dash(d.Digest.String())))
		b.line("  platform", d.Platform)
	}
	if d.RuntimeHandler != "" {
		b.line("  handler", d.RuntimeHandler)
	}
	if d.Policy != "" {
		b.line("policy", fmt.Sprintf("%-20s(%s)", d.Policy, d.PolicyWhy))
		b.line("  store", strings.TrimRight(fmt.Sprintf("%-19s -> %s%s", d.Store, d.outcome(), brackets(d.StoreWhy)), " "))
	} else {
		b.line("result", d.outcome())
	}
	d.Access.text(&b)
	d.admissionText(&b)
	d.backOffText(&b)
	d.candidatesText(&b)
	d.attemptsText(&b)
	d.indexText(&b)
	if d.Resolved != "" {
		b.line("blobs", fmt.Sprintf("%d to fetch (%s), %d already present", len(d.Fetch), bytesText(d.Fetch), len(d.Present)))
	}
	return b.String()
}

// lines builds a text that has a key and a value in each line, with the values aligned.
type lines struct{ strings.Builder }

func (b *lines) line(key, value string) {
	fmt.Fprintf(b, "%-12s%s\n", key, redact.Escape(value, len(value)))
}

// outcome returns the decision in a few words.
func (d Decision) outcome() string {
	switch d.Action {
	case ActionPull:
		return "pull"
	case ActionUse:
		return "use what is stored"
	case ActionCheck:
		return "use what is stored, if it is admitted"
	case ActionWait:
		return string(d.Reason)
	}
	if d.Reason == "" {
		return "fail: " + d.Why
	}
	return strings.TrimSuffix(string(d.Reason)+": "+d.Why, ": ")
}

func (d Decision) admissionText(b *lines) {
	a := d.Admission
	if a == nil {
		return
	}
	state := "would be asked"
	if a.Admitted {
		state = "has admitted"
	}
	text := fmt.Sprintf("%-20s(policy %s)", state, dash(a.Policy))
	if a.AdmittedBy != "" {
		text += "   by " + a.AdmittedBy
	}
	if a.Trusted {
		text += "   not for this image: present images are trusted"
	}
	b.line("admission", text)
	if a.Rule != "" {
		b.line("  rule", a.Rule)
	}
}

func (d Decision) backOffText(b *lines) {
	w := d.BackOff
	if w == nil {
		return
	}
	state := "none"
	switch {
	case w.Repaired:
		state = "open: secrets are new"
	case w.Wait > 0:
		state = "next try in " + round(w.Wait).String()
	}
	b.line("back-off", fmt.Sprintf("%-20s(key: %s; failures: %d)", state, w.Key, w.Failures))
	if w.Previous != "" {
		b.line("  previous", w.Previous)
	}
}

func (d Decision) candidatesText(b *lines) {
	if d.BackOff == nil {
		return
	}
	tried := 0
	for _, c := range d.Candidates {
		if c.Order > 0 {
			tried++
		}
	}
	switch tried {
	case 0:
		b.line("credentials", "none: one anonymous try")
	case 1:
		b.line("credentials", "1 candidate")
	default:
		b.line("credentials", strconv.Itoa(tried)+" candidates, tried in this order")
	}
	var table columns
	for _, c := range d.Candidates {
		user := ""
		if c.Username != "" {
			user = "user " + c.Username
		}
		why := c.Why
		if c.Mirror != "" {
			why = strings.TrimLeft(why+"   for the mirror "+c.Mirror, " ")
		}
		table = append(table, [3]string{c.From, user, why})
	}
	for i, text := range table.lines() {
		order := "x"
		switch c := d.Candidates[i]; {
		case c.Order > 0:
			order = strconv.Itoa(c.Order)
		case c.Mirror != "":
			order = "m"
		}
		fmt.Fprintf(b, "%3s  %s\n", order, redact.Escape(text, len(text)))
	}
	if d.Skipped > 0 {
		fmt.Fprintf(b, "  x  and %d more that do not match\n", d.Skipped)
	}
}

// columns has the three cells of each line of a table.
type columns [][3]string

// widest is how many characters a cell may have to count for the width of its column.
const widest = 60

// lines returns the lines with aligned columns. A column that is empty in all lines is left
// out.
func (c columns) lines() []string {
	var width [3]int
	for _, row := range c {
		for i, cell := range row {
			if n := utf8.RuneCountInString(cell); n <= widest {
				width[i] = max(width[i], n)
			}
		}
	}
	out := make([]string, 0, len(c))
	for _, row := range c {
		text := ""
		for i, cell := range row {
			if cell != "" || width[i] > 0 {
				text += fmt.Sprintf("%-*s   ", width[i], cell)
			}
		}
		out = append(out, strings.TrimRight(text, " "))
	}
	return out
}

func (d Decision) attemptsText(b *lines) {
	for i, a := range d.Attempts {
		answer := "accepted"
		if a.Error != "" {
			answer = a.Error
			if a.Status != 0 {
				answer = strings.TrimSpace(strconv.Itoa(a.Status) + " " + strings.Join(a.Codes, " "))
			}
		}
		key := ""
		if i == 0 {
			key = "attempts"
		}
		b.line(key, fmt.Sprintf("%d  %s: %s", i+1, a.From, answer))
	}
}

func (d Decision) indexText(b *lines) {
	if d.Resolved == "" {
		return
	}
	if len(d.Index) == 0 {
		b.line("manifest", short(d.Resolved))
		return
	}
	b.line("index", fmt.Sprintf("%s  %d manifests, want %s", short(d.Resolved), len(d.Index), d.Platform))
	skipped := false
	for _, e := range d.Index {
		key := ""
		switch {
		case e.Chosen:
			key = "  chosen"
		case !skipped:
			key, skipped = "  skipped", true
		}
		b.line(key, fmt.Sprintf("%-22s%-18s%s", short(e.Digest), e.Platform, e.Why))
	}
}

// short returns a digest with its first 12 hexadecimal digits, which are enough to
// recognize it.
func short(d digest.Digest) string {
	const enough = 12
	algorithm, hex, ok := strings.Cut(d.String(), ":")
	if !ok || len(hex) <= enough {
		return d.String()
	}
	return algorithm + ":" + hex[:enough]
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func brackets(s string) string {
	if s == "" {
		return ""
	}
	return "  (" + s + ")"
}

// bytesText returns the total size of blobs, in a unit that fits it.
func bytesText(blobs []ocispec.Descriptor) string {
	var n int64
	for _, b := range blobs {
		n += b.Size
	}
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " bytes"
	}
	size, unit := float64(n), -1
	for size >= 1024 && unit < len("KMGTPE")-1 {
		size /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", size, "KMGTPE"[unit])
}
