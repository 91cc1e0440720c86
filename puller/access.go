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
	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/reference"
)

// An accessChecker decides whether a Pod may use an image that is present already, as the
// kubelet does if its credential verification is on. It also notes each pull in the
// records.
type accessChecker struct {
	config *Config

	adopting slots // one at a time
	adopted  atomic.Bool

	// The lock is not held while the records or the store are asked.
	mu       sync.Mutex
	intents  map[string]int // of pulls of this process that have not ended
	listings map[*listing]struct{}
}

// A listing is one pass over the notes in the records. own has the intents of the pulls
// of this process that ran at any time after the pass began. These pulls take back their
// notes themselves.
type listing struct{ own map[string]bool }

func newAccessChecker(config *Config) *accessChecker {
	return &accessChecker{config: config, adopting: newSlots(1), intents: map[string]int{}, listings: map[*listing]struct{}{}}
}

// An access says whether a Pod may use an image, and why.
type access struct {
	granted bool
	why     string
	renewal *records.SecretID // the Secret that opened the image, if the record does not know it
}

// mayUse returns whether the task's Pod may use the present image. It returns an error
// only under Kubelet.FailOnBadSecret, for a fault of the Pod's secrets.
func (c *accessChecker) mayUse(ctx context.Context, t *task, img Image) (access, error) {
	if err := c.adopt(ctx); err != nil {
		return c.unreadable(t, err), nil
	}
	rec, known, err := c.record(ctx, t, img.id())
	if err != nil {
		return c.unreadable(t, err), nil
	}
	held, named := rec.Names[c.name(t)]
	if !c.config.Verify.Required(t.image, known) {
		return access{granted: true, why: "the verification policy does not ask for proof"}, nil
	}
	if len(rec.Names) == 0 {
		return access{why: "no Pod has shown yet that it may use it"}, nil
	}
	if !named {
		return access{why: "it was pulled under another name"}, nil
	}
	return c.match(ctx, t, held)
}

// record returns the image's record. known reports whether the records know of a pull
// that brought the image under the name that is asked for. If they do not, the image is
// preloaded under that name.
//
// There is one record for each image, and one image can have several names in the store.
// A name that is neither in the record nor in a note was not pulled, because each pull
// writes its name into a note before it begins, and takes back the note only after the
// name is in the record. The record's other names do not matter: if another name was
// pulled with a secret, a Pod needs that secret for the other name only.
func (c *accessChecker) record(ctx context.Context, t *task, id string) (rec records.Record, known bool, err error) {
	rec, known, err = c.recorded(ctx, t, id)
	if known || err != nil {
		return rec, known, err
	}
	if known, err = c.intended(ctx, t); known || err != nil {
		return rec, known, err
	}
	// The pull that brought the image may have ended between the two questions: it
	// writes the record, then takes back the note.
	return c.recorded(ctx, t, id)
}

// recorded returns the image's record. known reports whether the name was pulled, or may
// have been pulled, as far as the record shows.
func (c *accessChecker) recorded(ctx context.Context, t *task, id string) (rec records.Record, known bool, err error) {
	rec, err = c.config.Records.Record(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return records.Record{}, false, nil
	}
	_, named := rec.Names[c.name(t)]
	return rec, named || rec.Incomplete || c.config.Kubelet.PreloadedByID, err
}

// unreadable returns the access when the records cannot be read. It grants no access,
// unless the verification policy asks for no proof.
func (c *accessChecker) unreadable(t *task, err error) access {
	c.config.Logger.Warn("the records of pulled images cannot be read", "image", t.ref.String(), "err", err)
	if !c.config.Verify.Required(t.image, true) {
		return access{granted: true, why: "the verification policy does not ask for proof"}
	}
	return access{why: "the records cannot be read"}
}

// match returns whether held, the access in the record, lets the task's Pod use the image.
func (c *accessChecker) match(ctx context.Context, t *task, held records.Access) (access, error) {
	if held.Everybody {
		return access{granted: true, why: "it was pulled anonymously or with the node's credential"}, nil
	}
	// A service account without a UID could be another account of the same name.
	if account := accountOf(t.pod); account.UID != "" && slices.Contains(held.ServiceAccounts, account) {
		return access{granted: true, why: "the Pod's service account has pulled it before"}, nil
	}
	if len(held.Secrets) == 0 && len(held.ServiceAccounts) == 0 {
		return access{why: "no Pod has shown yet that it may use it"}, nil
	}
	if c.config.Kubelet.FailOnBadSecret {
		if err := t.candidates.fault(ctx, t.ref); err != nil {
			return access{}, err
		}
	}
	return c.matchSecrets(ctx, t, held), nil
}

// matchSecrets compares the Pod's secrets with those of held. It does not ask the node's
// keyring, because every Pod may use what was pulled with the node's credentials.
func (c *accessChecker) matchSecrets(ctx context.Context, t *task, held records.Access) access {
	found := access{why: "none of the Pod's secrets has pulled it before"}
	t.candidates.podCandidates(ctx, t.ref, func(cred credentials.Credential, err error) bool {
		switch {
		case err != nil:
			return true // the error is reported when the registry is asked
		case cred.Origin.ServiceAccount != (credentials.ServiceAccount{}):
			return true // the credential is not from a Secret; match has compared its account
		}
		for _, s := range held.Secrets {
			same, equal := s.SameObject(secretID(cred)), s.Matches(cred)
			switch {
			case same && (equal || !held.Full()): // as in the kubelet, a full record learns no new content
				found = access{granted: true, why: "the same Secret has pulled it before"}
			case equal:
				found = access{granted: true, why: "a Secret with the same content has pulled it before"}
			default:
				continue
			}
			if same != equal {
				found.renewal = renewal(held, cred)
			}
			return false
		}
		return true
	})
	return found
}

// renewal returns what the record should learn: another Secret of the same content, or
// the same Secret's new content. It is nil for a full record, which is left as it is, and
// for one that knows the Secret with this content already.
func renewal(held records.Access, cred credentials.Credential) *records.SecretID {
	s := records.NewSecretID(cred)
	if held.Full() || slices.ContainsFunc(held.Secrets, func(old records.SecretID) bool {
		return old.SameObject(s) && old.Matches(cred)
	}) {
		return nil
	}
	return &s
}

// renew writes a renewal into the record.
func (c *accessChecker) renew(ctx context.Context, t *task, o outcome) {
	err := within(ctx, func() error {
		return c.config.Records.Grant(ctx, o.image.id(), c.name(t), records.Access{Secrets: []records.SecretID{*o.renewal}})
	})
	if err != nil {
		c.config.Logger.Warn("the record of an image could not be renewed", "image", t.ref.String(), "err", err)
	}
}

// secretID returns the ID of the Secret that cred is from, without a hash.
func secretID(cred credentials.Credential) records.SecretID {
	return records.SecretID{Namespace: cred.Origin.Namespace, Name: cred.Origin.Name, UID: cred.Origin.UID}
}

// accountOf returns the Pod's service account, which is in the Pod's namespace.
func accountOf(pod credentials.Pod) credentials.ServiceAccount {
	account := pod.ServiceAccount
	if account.Namespace == "" {
		account.Namespace = pod.Namespace
	}
	return account
}

// intended reports whether a pull of the image has begun and not ended. A store can find
// an image by its digest although the image was pulled by a tag. So if the task's name
// has a digest, all pulls of the repository count.
func (c *accessChecker) intended(ctx context.Context, t *task) (bool, error) {
	want := c.intent(t)
	for intent, err := range c.config.Records.Intents(ctx) {
		if err != nil || intent == want || t.ref.Digest() != "" && repositoryOf(intent) == t.ref.Name() {
			return err == nil, err
		}
	}
	return false, nil
}

// repositoryOf returns the name in a note, without tag and digest; "" if the note has no
// name.
func repositoryOf(intent string) string {
	image, _, _ := strings.Cut(intent, " ")
	ref, err := reference.Parse(image)
	if err != nil {
		return ""
	}
	return ref.Name()
}

// adopt makes records of the images that pulls have left in the store when a crash ended
// them. It does so once. These records grant access to no Pod, because it is not known
// with which credential the images came. Without these records another tag of the same
// image would look preloaded.
func (c *accessChecker) adopt(ctx context.Context) error {
	if c.adopted.Load() {
		return nil
	}
	if err := c.adopting.acquire(ctx); err != nil {
		return err
	}
	defer c.adopting.release()
	if c.adopted.Load() {
		return nil
	}
	if err := c.adoptAll(ctx); err != nil {
		return err
	}
	c.adopted.Store(true)
	return nil
}

func (c *accessChecker) adoptAll(ctx context.Context) error {
	left, err := c.leftIntents(ctx)
	if err != nil {
		return err
	}
	for _, intent := range left {
		if err := c.adoptOne(ctx, intent); err != nil {
			return err
		}
	}
	return nil
}

// leftIntents lists the notes that no pull of this process takes back.
func (c *accessChecker) leftIntents(ctx context.Context) ([]string, error) {
	l := c.list()
	defer c.unlist(l)
	var noted []string
	for intent, err := range c.config.Records.Intents(ctx) {
		if err != nil {
			return nil, err
		}
		noted = append(noted, intent)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(noted, func(intent string) bool { return l.own[intent] }), nil
}

func (c *accessChecker) list() *listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := &listing{own: map[string]bool{}}
	for intent := range c.intents {
		l.own[intent] = true
	}
	c.listings[l] = struct{}{}
	return l
}

func (c *accessChecker) unlist(l *listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.listings, l)
}

// count adds a pull under way. The returned function removes it again.
func (c *accessChecker) count(intent string) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.intents[intent]++
	for l := range c.listings {
		l.own[intent] = true
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.intents[intent]--; c.intents[intent] == 0 {
			delete(c.intents, intent)
		}
	}
}

func (c *accessChecker) adoptOne(ctx context.Context, intent string) error {
	image, text, _ := strings.Cut(intent, " ")
	platform, err := index.ParsePlatform(text)
	if err != nil {
		platform = ocispec.Platform{} // the Puller's own
	}
	t, unusable := newTask(Request{Image: image, Platform: platform}, c.config, 0)
	if unusable != nil {
		return nil // no request can ask for this image
	}
	img, err := c.config.Runtime.Status(ctx, t.spec())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.config.Records.Grant(ctx, img.id(), c.name(t), records.Access{})
}

// sweep is Puller.Sweep.
func (c *accessChecker) sweep(ctx context.Context, before time.Time, stored func(id string) bool) error {
	if err := c.adoptAll(ctx); err != nil {
		return err
	}
	return c.config.Records.Sweep(ctx, before, stored)
}

// recordTime is how long one write of Records may take. A file system that hangs must not
// hold the slot of a pull for ever.
const recordTime = 30 * time.Second

// errRecordTime is the error of a write that takes longer.
var errRecordTime = fmt.Errorf("the records did not answer within %v", recordTime)

// within calls fn, which may ignore the end of its context, and returns its error or the
// cause of the end of ctx.
func within(ctx context.Context, fn func() error) error {
	err, ok := await.Call(ctx, fn)
	if !ok {
		return context.Cause(ctx)
	}
	return err
}

// A pullNote is in the records while one pull is under way. A nil pullNote, without
// Records, does nothing.
type pullNote struct {
	checker  *accessChecker
	task     *task
	end      func()
	takeBack func() error
}

// begin writes the note of a pull that is about to begin.
func (c *accessChecker) begin(ctx context.Context, t *task) (*pullNote, error) {
	if c == nil {
		return nil, nil
	}
	intent := c.intent(t)
	n := &pullNote{checker: c, task: t, end: c.count(intent)}
	noted := false
	defer func() {
		if !noted {
			n.end()
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, recordTime, errRecordTime)
	defer cancel()
	err := within(ctx, func() (err error) {
		n.takeBack, err = c.config.Records.Intend(ctx, intent)
		return err
	})
	if err != nil {
		return nil, err
	}
	noted = true
	return n, nil
}

// close ends the pull in this process. If settle was not called, because a callback
// panicked, the note stays, so that Pods need proof.
func (n *pullNote) close() {
	if n != nil {
		n.end()
	}
}

// settle writes the result of the pull into the records and takes back the note. It does
// so even if all callers have left, because the image is in the store. If the result
// cannot be written, the note stays.
func (n *pullNote) settle(ctx context.Context, r pullResult) error {
	if n == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), recordTime, errRecordTime)
	defer cancel()
	return within(ctx, func() error {
		if r.err == nil {
			if err := n.checker.config.Records.Grant(ctx, r.image.id(), n.checker.name(n.task), accessBy(r.accepted)); err != nil {
				return err
			}
		}
		return n.takeBack()
	})
}

// accessBy returns which Pods may use an image that was pulled with this candidate.
func accessBy(c candidate) records.Access {
	account := c.cred.Origin.ServiceAccount
	switch {
	case c.cred.Anonymous():
		return records.Access{Everybody: true}
	case account != (credentials.ServiceAccount{}):
		return records.Access{ServiceAccounts: []credentials.ServiceAccount{account}}
	case c.ofPod:
		return records.Access{Secrets: []records.SecretID{records.NewSecretID(c.cred)}}
	}
	return records.Access{Everybody: true}
}

// intent returns the text of the note for a pull of the image: its name and the platform,
// because the store may hold the image for several platforms.
func (c *accessChecker) intent(t *task) string {
	name := t.ref.String()
	if c.config.Kubelet.NameAsWritten {
		name = t.written
	}
	return name + " " + index.FormatPlatform(t.platform)
}

// name returns the name under which access to the image is recorded.
func (c *accessChecker) name(t *task) string {
	if c.config.Kubelet.NameAsWritten {
		if name, err := reference.Trim(t.image); err == nil {
			return name
		}
	}
	return t.ref.Name()
}

// id returns the ID under which the image's record is kept.
func (i Image) id() string {
	if i.ID != "" {
		return i.ID
	}
	return i.Digest.String()
}
