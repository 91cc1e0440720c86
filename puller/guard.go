package puller

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
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

	mu      sync.Mutex
	adopted bool

	underWay sync.Mutex
	intents  map[string]int // of pulls of this process that have not ended
}

func newGuard(p *Puller) *guard {
	return &guard{records: p.config.Records, verify: p.config.Verify, puller: p, intents: map[string]int{}}
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
	if !g.verify.Required(t.req.Image, known) {
		return access{true, "the verification policy does not ask for proof"}, nil
	}
	if len(rec.Names) == 0 {
		return access{false, "nobody has shown yet that they may use it"}, nil
	}
	held, ok := rec.Names[g.name(t)]
	if !ok {
		return access{false, "it was pulled under another name"}, nil
	}
	return g.match(ctx, t, id, held)
}

// record returns the image's record, and whether there is one or a pull of it has
// begun.
func (g *guard) record(ctx context.Context, t *task, id string) (rec Record, known bool, err error) {
	rec, err = g.records.Record(ctx, id)
	if !errors.Is(err, fs.ErrNotExist) {
		return rec, true, err
	}
	if known, err = g.intended(ctx, t); known || err != nil {
		return Record{}, known, err
	}
	// The pull that brought the image may have ended between the two questions: it
	// writes the record, then takes back the note.
	rec, err = g.records.Record(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, false, nil
	}
	return rec, true, err
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

// intended reports whether a pull of the image was begun and has not ended.
func (g *guard) intended(ctx context.Context, t *task) (bool, error) {
	want := g.intent(t)
	for image, err := range g.records.Intents(ctx) {
		if err != nil || image == want {
			return err == nil, err
		}
	}
	return false, nil
}

// adopt makes, once, records of what pulls that were cut short by a crash have
// left in the store: without access for anybody, since nobody knows with which
// credential they came. Without it another tag of the same image would look like
// one that was always there.
func (g *guard) adopt(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.adopted {
		return nil
	}
	if err := g.adoptAll(ctx); err != nil {
		return err
	}
	g.adopted = true
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

// leftIntents lists the notes that no pull of this process will take back. While
// the lock is held none of those can end, so that each note seen is either
// counted or left over.
func (g *guard) leftIntents(ctx context.Context) ([]string, error) {
	g.underWay.Lock()
	defer g.underWay.Unlock()
	var left []string
	for intent, err := range g.records.Intents(ctx) {
		if err != nil {
			return nil, err
		}
		if g.intents[intent] == 0 {
			left = append(left, intent)
		}
	}
	return left, nil
}

// count adds a pull under way; the function it returns takes that back.
func (g *guard) count(intent string) (end func()) {
	g.underWay.Lock()
	defer g.underWay.Unlock()
	g.intents[intent]++
	return func() {
		g.underWay.Lock()
		defer g.underWay.Unlock()
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
	if err := p.guard.adoptAll(ctx); err != nil {
		return err
	}
	return p.config.Records.Sweep(ctx, before, stored)
}

// begin notes that a pull begins. What it returns must be called with what the
// pull ended with.
func (g *guard) begin(ctx context.Context, t *task) (done func(tried) error, err error) {
	if g == nil {
		return func(tried) error { return nil }, nil
	}
	intent := g.intent(t)
	end := g.count(intent)
	takeBack, err := g.records.Intend(ctx, intent)
	if err != nil {
		end()
		return nil, err
	}
	return func(r tried) error {
		defer end()
		if r.err == nil {
			// The image is in the store: this has to be written, whoever has left.
			// If it cannot be, the note stays, so that others are asked for proof.
			if err := g.records.Grant(context.WithoutCancel(ctx), r.image.id(), g.name(t), r.access()); err != nil {
				return err
			}
		}
		return takeBack()
	}, nil
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
