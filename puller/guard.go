package puller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// A guard decides who may use an image that is present already, as the kubelet
// does where its credential verification is on.
type guard struct {
	records Records
	verify  pullpolicy.Verification
	puller  *Puller

	adopting *slots // one at a time
	adopted  atomic.Bool

	// No lock is held while records, or the store, are asked.
	mu       sync.Mutex
	intents  map[string]int // of pulls of this process that have not ended
	listings map[*listing]struct{}
}

// A listing of the notes is under way. own are the intents of this process that were
// under way at any time since it began: their notes will be taken back.
type listing struct{ own map[string]bool }

func newGuard(p *Puller) *guard {
	return &guard{records: p.config.Records, verify: p.config.Verify, puller: p,
		adopting: newSlots(1), intents: map[string]int{}, listings: map[*listing]struct{}{}}
}

// An access is what the guard found.
type access struct {
	granted bool
	why     string
}

// mayUse says whether the task's Pod may use the present image. The error is a
// fault of the Pod's secrets, under Kubelet.FailOnBadSecret only.
func (g *guard) mayUse(ctx context.Context, t *task, img Image) (access, error) {
	if err := g.adopt(ctx); err != nil {
		return g.unreadable(t, err), nil
	}
	id := img.id()
	rec, known, err := g.record(ctx, t, id)
	if err != nil {
		return g.unreadable(t, err), nil
	}
	held, named := rec.Names[g.name(t)]
	if !g.verify.Required(t.req.Image, known) {
		return access{true, "the verification policy does not ask for proof"}, nil
	}
	if len(rec.Names) == 0 {
		return access{false, "nobody has shown yet that they may use it"}, nil
	}
	if !named {
		return access{false, "it was pulled under another name"}, nil
	}
	return g.match(ctx, t, id, held)
}

// record returns the image's record, and whether the image came by a pull that is in
// the records: if not, it was always there, under the name that is asked for.
//
// Records are kept for the image, and one image can have several names in the store.
// A name that no record and no note holds was not pulled, whatever other names hold:
// each pull notes its name before it begins, and the note stays until the record has the
// name. So a name can only be in the store without both if it was there before the
// records were. That another name was pulled with a secret changes nothing about who
// may use this one. Who has no secret for the other name cannot use it: there the
// record counts.
func (g *guard) record(ctx context.Context, t *task, id string) (rec Record, known bool, err error) {
	rec, known, err = g.recorded(ctx, t, id)
	if known || err != nil {
		return rec, known, err
	}
	if known, err = g.intended(ctx, t); known || err != nil {
		return rec, known, err
	}
	// The pull that brought the image may have ended between the two questions: it
	// writes the record, then takes back the note.
	return g.recorded(ctx, t, id)
}

// recorded returns the image's record; known if it says that the name was pulled, or
// may have been.
func (g *guard) recorded(ctx context.Context, t *task, id string) (rec Record, known bool, err error) {
	rec, err = g.records.Record(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, false, nil
	}
	_, named := rec.Names[g.name(t)]
	return rec, named || rec.Incomplete || g.puller.config.Kubelet.PreloadedByID, err
}

// unreadable records let nobody in, unless nobody is asked for proof.
func (g *guard) unreadable(t *task, err error) access {
	g.puller.log.Warn("the records of pulled images cannot be read", "image", t.ref.String(), "err", err)
	if !g.verify.Required(t.req.Image, true) {
		return access{true, "the verification policy does not ask for proof"}
	}
	return access{false, "the records cannot be read"}
}

// match looks for the Pod among those who have shown that they may use the image.
func (g *guard) match(ctx context.Context, t *task, id string, held Access) (access, error) {
	if held.Everybody {
		return access{true, "it was pulled anonymously or with the node's credential"}, nil
	}
	// Without a UID it could be another one of the same name.
	if account := accountOf(t.req.Pod); account.UID != "" && slices.Contains(held.ServiceAccounts, account) {
		return access{true, "the Pod's service account has pulled it before"}, nil
	}
	if len(held.Secrets) == 0 && len(held.ServiceAccounts) == 0 {
		return access{false, "nobody has shown yet that they may use it"}, nil
	}
	if g.puller.config.Kubelet.FailOnBadSecret {
		if err := g.puller.badSecret(ctx, t); err != nil {
			return access{}, err
		}
	}
	return g.matchSecrets(ctx, t, id, held), nil
}

// matchSecrets goes through the Pod's secrets. The node's keyring is not asked:
// what it has pulled everybody may use.
func (g *guard) matchSecrets(ctx context.Context, t *task, id string, held Access) access {
	why := "none of the Pod's secrets has pulled it before"
	granted := false
	t.ring.lookupPod(ctx, t.ref, func(c credentials.Credential, err error) bool {
		switch {
		case err != nil:
			return true // it is reported where the secret is missing: when the registry is asked
		case c.Origin.ServiceAccount != (credentials.ServiceAccount{}):
			return true // no Secret, and known by its account
		}
		for _, s := range held.Secrets {
			same, equal := s.sameObject(secretID(c)), holds(s.Hash, c)
			switch {
			case same && (equal || len(held.Secrets) < maxAccess): // as in the kubelet, a full record knows no new content
				why = "the same Secret has pulled it before"
			case equal:
				why = "a Secret with the same content has pulled it before"
			default:
				continue
			}
			granted = true
			if same != equal {
				g.renew(ctx, t, id, held, c)
			}
			return false
		}
		return true
	})
	return access{granted, why}
}

// renew notes another Secret of the same content, or the same one's new content.
// A full record is left as it is.
func (g *guard) renew(ctx context.Context, t *task, id string, held Access, c credentials.Credential) {
	s := secretID(c)
	if t.dry || len(held.Secrets) >= maxAccess || slices.ContainsFunc(held.Secrets, func(old SecretID) bool {
		return old.sameObject(s) && holds(old.Hash, c)
	}) {
		return
	}
	s.Hash = hashCredential(c)
	if err := g.records.Grant(ctx, id, g.name(t), Access{Secrets: []SecretID{s}}); err != nil {
		g.puller.log.Warn("the record of an image could not be renewed", "image", t.ref.String(), "err", err)
	}
}

// secretID names the Secret that c is from, without a hash.
func secretID(c credentials.Credential) SecretID {
	return SecretID{Namespace: c.Origin.Namespace, Name: c.Origin.Name, UID: c.Origin.UID}
}

// intended reports whether a pull of the image was begun and has not ended. A store
// can find by its digest what is pulled by a tag, so for a digest all pulls of the
// repository count.
func (g *guard) intended(ctx context.Context, t *task) (bool, error) {
	want := g.intent(t)
	for intent, err := range g.records.Intents(ctx) {
		if err != nil || intent == want || t.ref.Digest() != "" && repositoryOf(intent) == t.ref.Name() {
			return err == nil, err
		}
	}
	return false, nil
}

// repositoryOf is the name, without tag and digest, in a note; "" if it has none.
func repositoryOf(intent string) string {
	image, _, _ := strings.Cut(intent, " ")
	ref, err := reference.Parse(image)
	if err != nil {
		return ""
	}
	return ref.Name()
}

// adopt makes, once, records of what pulls that were cut short by a crash have
// left in the store: without access for anybody, since nobody knows with which
// credential they came. Without it another tag of the same image would look like
// one that was always there.
func (g *guard) adopt(ctx context.Context) error {
	if g.adopted.Load() {
		return nil
	}
	if err := g.adopting.acquire(ctx); err != nil {
		return err
	}
	defer g.adopting.release()
	if g.adopted.Load() {
		return nil
	}
	if err := g.adoptAll(ctx); err != nil {
		return err
	}
	g.adopted.Store(true)
	return nil
}

func (g *guard) adoptAll(ctx context.Context) error {
	left, err := g.leftIntents(ctx)
	if err != nil {
		return err
	}
	for _, intent := range left {
		if err := g.adoptOne(ctx, intent); err != nil {
			return err
		}
	}
	return nil
}

// leftIntents lists the notes that no pull of this process will take back.
func (g *guard) leftIntents(ctx context.Context) ([]string, error) {
	l := g.list()
	defer g.unlist(l)
	var noted []string
	for intent, err := range g.records.Intents(ctx) {
		if err != nil {
			return nil, err
		}
		noted = append(noted, intent)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.DeleteFunc(noted, func(intent string) bool { return l.own[intent] }), nil
}

func (g *guard) list() *listing {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := &listing{own: map[string]bool{}}
	for intent := range g.intents {
		l.own[intent] = true
	}
	g.listings[l] = struct{}{}
	return l
}

func (g *guard) unlist(l *listing) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.listings, l)
}

// count adds a pull under way; the function it returns takes that back.
func (g *guard) count(intent string) (end func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.intents[intent]++
	for l := range g.listings {
		l.own[intent] = true
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.intents[intent]--; g.intents[intent] == 0 {
			delete(g.intents, intent)
		}
	}
}

func (g *guard) adoptOne(ctx context.Context, intent string) error {
	image, text, _ := strings.Cut(intent, " ")
	platform, err := index.ParsePlatform(text)
	if err != nil {
		platform = ocispec.Platform{} // the Puller's own
	}
	t, unusable := g.puller.newTask(Request{Image: image, Platform: platform})
	if unusable != nil {
		return nil // nobody can ask for it
	}
	img, err := g.puller.config.Runtime.Status(ctx, t.spec())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return g.records.Grant(ctx, img.id(), g.name(t), Access{})
}

// Sweep lets Config.Records forget images that are stored no longer. stored
// reports whether an image with that ID (as in Image.ID) is in the store; before is
// the time at which the store was listed, so that an image pulled since then keeps
// its record. Without Records it does nothing. Call it now and then, as often as
// the store is pruned.
func (p *Puller) Sweep(ctx context.Context, before time.Time, stored func(id string) bool) error {
	if p.guard == nil {
		return nil
	}
	err, ok := await(ctx, func() error {
		if err := p.guard.adoptAll(ctx); err != nil {
			return err
		}
		return p.config.Records.Sweep(ctx, before, stored)
	})
	if !ok {
		return context.Cause(ctx)
	}
	return err
}

// recordTime is how long Records may take to write one thing down. A file system that
// hangs must not keep the place of a pull for ever.
const recordTime = 30 * time.Second

// errRecordTime says that Records took longer.
var errRecordTime = fmt.Errorf("the records did not answer within %v", recordTime)

// A pullNote stands in the records for one pull that is under way. A nil one, without
// Records, does nothing.
type pullNote struct {
	guard    *guard
	task     *task
	end      func()
	takeBack func() error
}

// begin notes that a pull begins.
func (g *guard) begin(ctx context.Context, t *task) (*pullNote, error) {
	if g == nil {
		return nil, nil
	}
	intent := g.intent(t)
	n := &pullNote{guard: g, task: t, end: g.count(intent)}
	noted := false
	defer func() {
		if !noted {
			n.end()
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, recordTime, errRecordTime)
	defer cancel()
	type intended struct {
		takeBack func() error
		err      error
	}
	made, ok := await(ctx, func() (i intended) {
		i.takeBack, i.err = g.records.Intend(ctx, intent)
		return i
	})
	switch {
	case !ok:
		return nil, context.Cause(ctx)
	case made.err != nil:
		return nil, made.err
	}
	n.takeBack, noted = made.takeBack, true
	return n, nil
}

// close ends the pull in this process; where nothing was settled, because a callback
// panicked, the note stays, so that others are asked for proof.
func (n *pullNote) close() {
	if n != nil {
		n.end()
	}
}

// settle writes down what the pull ended with. The image is in the store: this has to
// be written also if all callers have left. If it cannot be, the note stays.
func (n *pullNote) settle(ctx context.Context, r tried) error {
	if n == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), recordTime, errRecordTime)
	defer cancel()
	err, ok := await(ctx, func() error {
		if r.err == nil {
			if err := n.guard.records.Grant(ctx, r.image.id(), n.guard.name(n.task), r.access()); err != nil {
				return err
			}
		}
		return n.takeBack()
	})
	if !ok {
		return context.Cause(ctx)
	}
	return err
}

// access is who has shown by this pull that they may use the image.
func (r tried) access() Access {
	account := r.with.Origin.ServiceAccount
	switch {
	case r.with.Anonymous():
		return Access{Everybody: true}
	case account != (credentials.ServiceAccount{}):
		return Access{ServiceAccounts: []credentials.ServiceAccount{account}}
	case r.from == fromPod:
		s := secretID(r.with)
		s.Hash = hashCredential(r.with)
		return Access{Secrets: []SecretID{s}}
	}
	return Access{Everybody: true}
}

// intent is what a pull of the image is noted under: its name, and the platform,
// since the store may hold it for several.
func (g *guard) intent(t *task) string {
	name := t.ref.String()
	if g.puller.config.Kubelet.NameAsWritten {
		name = t.written
	}
	return name + " " + index.FormatPlatform(t.platform)
}

// name is what access to the image is recorded under.
func (g *guard) name(t *task) string {
	if g.puller.config.Kubelet.NameAsWritten {
		if name, err := reference.Trim(t.req.Image); err == nil {
			return name
		}
	}
	return t.ref.Name()
}

// id is what the image's record is kept under.
func (i Image) id() string {
	if i.ID != "" {
		return i.ID
	}
	return i.Digest.String()
}
