package puller

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/pullpolicy"
)

// Explain says what Pull would do with the request, and why, without doing it:
// nothing is pulled, recorded or counted, and there are no events.
//
// For everything that needs no answer of a registry, a helper or a plugin it is
// what Pull does, as long as nothing changes. Where Pull would ask the registry and
// the Runtime is a [Planner], Explain reads the index and the manifest from it,
// with the credentials that Pull would try; helpers and plugins may run for that.
// The error is the cause of ctx's end; all other failures are part of the Decision.
func (p *Puller) Explain(ctx context.Context, req Request) (Decision, error) {
	t, unusable := p.newTask(req)
	d := Decision{Image: t.req.Image, Store: StoreNotAsked}
	if unusable != nil {
		d.fail(unusable.Reason, unusable.Err)
		return d, nil
	}
	t.dry = true
	d.Registry, d.Repository, d.Tag, d.Digest = t.ref.Registry(), t.ref.Repository(), t.ref.Tag(), t.ref.Digest()
	d.Platform = index.FormatPlatform(t.platform)
	d.Policy, d.PolicyWhy = t.policy, p.policyWhy(t)
	found, _ := await(ctx, func() finding { return p.precheck(ctx, t) })
	if ctx.Err() != nil {
		return Decision{}, context.Cause(ctx)
	}
	d.explainStore(t, found)
	if d.Action != ActionPull {
		return d, nil
	}
	p.explainFetch(t, &d)
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

func (p *Puller) policyWhy(t *task) string {
	switch {
	case p.config.AlwaysPull:
		return "AlwaysPullImages"
	case t.req.Policy != "" && t.policy == t.req.Policy:
		return "as requested"
	case t.req.Policy != "" || p.config.Kubelet.PolicyAsWritten:
		return "no policy of the three: pulled without a look at the store"
	case t.policy == pullpolicy.Always:
		return "default: tag is latest"
	case t.ref.Tag() == "":
		return "default: no tag, but a digest"
	}
	return "default: tag is not latest"
}

// explainStore tells what the store and the records lead to.
func (d *Decision) explainStore(t *task, f finding) {
	if f.err != nil {
		d.Store = StoreUnknown
		d.fail(f.reason(), f.err)
		return
	}
	if t.policy.Looks() {
		d.Store, d.StoreWhy = StoreAbsent, f.access.why
		switch f.presence {
		case pullpolicy.Present:
			d.Store = StorePresent
		case pullpolicy.NeedsProof:
			d.Store = StoreNotYours
		}
	}
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

// explainFetch tells what holds a pull up, and what would be tried.
func (p *Puller) explainFetch(t *task, d *Decision) {
	g := p.windows.look(t.key, p.print(t))
	d.BackOff = &Window{Key: t.key.String(), Failures: g.state.Failures, Wait: g.wait, Repaired: g.repaired}
	if g.previous != nil {
		d.BackOff.Previous = string(g.previous.Reason) + ": " + g.previous.cause()
	}
	d.explainCandidates(t)
	switch fault := t.ring.knownFault(t.ref); {
	case !g.open():
		d.Action, d.Reason = ActionWait, ErrImagePullBackOff
	case p.config.Kubelet.FailOnBadSecret && fault != nil:
		d.fail("", fault)
	case p.rate.empty():
		d.fail(ErrImagePull, errRate)
	}
}

// String is the key for people.
func (k backoffKey) String() string {
	pod := k.pod
	if pod == "" {
		pod = "no pod"
	}
	return cutText(pod + ", " + k.image)
}

// maxSkipped bounds how many of the entries that do not match are listed.
const maxSkipped = 100

// explainCandidates lists the entries of the Pod's and of the node's keyring.
func (d *Decision) explainCandidates(t *task) {
	order, skipped := 0, 0
	tried := map[uint64]bool{} // the Pod's
	type problem struct {
		origin credentials.Origin
		why    string
	}
	listed := map[problem]bool{}
	add := func(from origin, note credentials.Note) {
		c := newCandidate(note)
		switch {
		case note.Err != nil && listed[problem{note.Origin, note.Why}]:
			return // among the Pod's problems
		case !note.Matched:
		case from == fromPod:
			if err := t.ring.foreign(note.Origin); err != nil {
				c.Why, note.Matched = "refused: "+err.Error(), false
			} else if note.Print != 0 {
				tried[note.Print] = true
			}
		case tried[note.Print] && !t.ring.keepDuplicates:
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
	for _, a := range t.ring.problems() {
		why := "left out: " + a.Err.Error()
		add(fromPod, credentials.Note{Origin: a.Origin, Why: why})
		listed[problem{a.Origin, why}] = true
	}
	explainRing(fromPod, t.ring.pod, t, add)
	explainRing(fromNode, t.ring.node, t, add)
}

func explainRing(from origin, ring credentials.Keyring, t *task, add func(origin, credentials.Note)) {
	if ring == nil {
		return
	}
	explainer, ok := ring.(credentials.Explainer)
	if !ok {
		name := "the node's keyring"
		if from == fromPod {
			name = "the request's keyring"
		}
		add(from, credentials.Note{Matched: true, Why: name + " cannot say what it would yield"})
		return
	}
	for note := range explainer.Explain(t.ref) {
		add(from, note)
	}
}

func newCandidate(n credentials.Note) Candidate {
	return Candidate{
		Origin: n.Origin, From: n.Origin.String(), Kind: n.Origin.Kind,
		Namespace: n.Origin.Namespace, Name: n.Origin.Name, Key: n.Origin.Key,
		Username: redact.Text(n.Username), Why: redact.Text(n.Why),
	}
}

// explainPlan asks the registry what the pull would fetch.
func (p *Puller) explainPlan(ctx context.Context, t *task, planner Planner, d *Decision) {
	plan, attempts, err := askEach(ctx, p, t, planner.Plan)
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
	e := Entry{Digest: v.Descriptor.Digest, Platform: "-", Chosen: v.Chosen, Why: redact.Text(string(v.Why))}
	if pl := v.Descriptor.Platform; pl != nil {
		e.Platform = redact.Text(index.FormatPlatform(*pl))
	}
	return e
}

// plainDescriptors leaves out what a stranger may have put there besides.
func plainDescriptors(in []ocispec.Descriptor) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, d := range in {
		out = append(out, ocispec.Descriptor{MediaType: redact.Text(d.MediaType), Digest: d.Digest, Size: d.Size})
	}
	return out
}
