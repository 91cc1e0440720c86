package puller

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/reference"
)

// An accessChecker decides whether a Pod may use an image that is present already, as the
// kubelet does if its credential verification is on. It also notes each pull in the
// records.
type accessChecker struct {
	config *Config
	reader records.Reader // Config.Records, if another program writes them

	adopting slots // so that only one call adopts at a time
	adopted  atomic.Bool

	// The lock is not held while the records or the store are asked.
	mu       sync.Mutex
	intents  map[string]int // of pulls of this Puller that have not ended
	listings map[*listing]struct{}
}

func newAccessChecker(config *Config) *accessChecker {
	reader, _ := config.Records.(records.Reader)
	return &accessChecker{config: config, reader: reader, adopting: newSlots(1), intents: map[string]int{}, listings: map[*listing]struct{}{}}
}

// An accessAnswer says whether a Pod may use an image, and why.
type accessAnswer struct {
	granted bool
	why     string
	renewal *records.SecretID // the Secret that the record should learn; nil if the record has it already
	check   *AccessCheck      // for Explain
}

// mayUse returns whether the task's Pod may use the present image. It returns an error
// only under Kubelet.FailOnBadSecret, for a fault of the Pod's secrets.
func (c *accessChecker) mayUse(ctx context.Context, t *task, img Image) (accessAnswer, error) {
	check := &AccessCheck{Verify: c.config.Verify.Policy(), ID: img.id(), Name: c.name(t)}
	answer, err := c.decide(ctx, t, img, check)
	answer.check = check.finish(t, answer)
	return answer, err
}

// decide does the work of mayUse. It writes into check what it learns.
func (c *accessChecker) decide(ctx context.Context, t *task, img Image, check *AccessCheck) (accessAnswer, error) {
	if err := c.adopt(ctx); err != nil {
		return c.unreadable(t, err, check), nil
	}
	rec, known, err := c.record(ctx, t, img)
	if err != nil {
		return c.unreadable(t, err, check), nil
	}
	held, named := rec.Names[c.name(t)]
	check.setRecord(rec, known, held)
	if !c.config.Verify.Required(t.image, known) {
		return accessAnswer{granted: true, why: "the verification policy does not ask for proof"}, nil
	}
	if len(rec.Names) == 0 {
		return accessAnswer{why: "no Pod has proved yet that it may use the image"}, nil
	}
	if !named {
		return accessAnswer{why: "the image was pulled under another name"}, nil
	}
	return c.match(ctx, t, held, check)
}

// record returns the image's record. known reports whether the records know of a pull that
// brought the image under the task's name. If they know of none, the image is preloaded
// under that name.
//
// There is one record for each image, and one image can have several names in the store.
// A name that is neither in the record nor in a note was not pulled, because each pull
// writes its name into a note before it begins, and takes back the note only after the
// name is in the record. The record's other names do not matter: if another name was
// pulled with a secret, a Pod needs that secret for the other name only.
func (c *accessChecker) record(ctx context.Context, t *task, img Image) (rec records.Record, known bool, err error) {
	rec, known, err = c.recorded(ctx, t, img)
	if known || err != nil {
		return rec, known, err
	}
	if known, err = c.intended(ctx, t); known || err != nil {
		return rec, known, err
	}
	// The pull that brought the image may have ended between recorded and intended: it writes
	// the record, then takes back the note.
	return c.recorded(ctx, t, img)
}

// recorded returns the image's record. known reports whether, according to the records,
// the task's name was pulled, or may have been pulled, for any runtime handler.
func (c *accessChecker) recorded(ctx context.Context, t *task, img Image) (rec records.Record, known bool, err error) {
	id := c.recordID(t, img)
	rec, known, err = c.recordOf(ctx, t, id)
	if known || err != nil || id == img.id() {
		return rec, known, err
	}
	_, known, err = c.recordOf(ctx, t, img.id()) // it has the names of all handlers; see grant
	return rec, known, err
}

// recordOf does the work of recorded for the record with one ID.
func (c *accessChecker) recordOf(ctx context.Context, t *task, id string) (rec records.Record, known bool, err error) {
	rec, err = c.config.Records.Record(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return records.Record{}, false, nil
	}
	_, named := rec.Names[c.name(t)]
	return rec, named || rec.Incomplete || c.config.Kubelet.PreloadedByID && len(rec.Names) > 0 || c.reader != nil, err
}

// unreadable returns the answer for records that cannot be read: no access, unless the
// verification policy asks for no proof.
func (c *accessChecker) unreadable(t *task, err error, check *AccessCheck) accessAnswer {
	check.Error = redact.Text(err.Error())
	c.config.Logger.Warn("the records of pulled images cannot be read", "image", t.ref.String(), "err", err)
	// In this case the kubelet asks for proof whatever its policy is.
	if c.reader == nil && !c.config.Verify.Required(t.image, true) {
		return accessAnswer{granted: true, why: "the verification policy does not ask for proof"}
	}
	return accessAnswer{why: "the records cannot be read"}
}

// match returns whether the task's Pod may use the image. held is the access in the
// record.
func (c *accessChecker) match(ctx context.Context, t *task, held records.Access, check *AccessCheck) (accessAnswer, error) {
	if held.Everybody {
		return accessAnswer{granted: true, why: "the image was pulled anonymously or with the node's credential"}, nil
	}
	// A service account without a UID could be another account of the same name.
	if account := accountOf(t.pod); account.UID != "" && slices.Contains(held.ServiceAccounts, account) {
		check.Matched = accountText(account)
		return accessAnswer{granted: true, why: "the Pod's service account has pulled the image before"}, nil
	}
	if len(held.Secrets) == 0 && len(held.ServiceAccounts) == 0 {
		return accessAnswer{why: "no Pod has proved yet that it may use the image"}, nil
	}
	if c.config.Kubelet.FailOnBadSecret {
		if err := t.candidates.fault(ctx, t.ref); err != nil {
			return accessAnswer{}, err
		}
	}
	return c.matchSecrets(ctx, t, held, check), nil
}

// matchSecrets compares the Pod's secrets with those of held. It does not ask the node's
// keyring, because every Pod may use what was pulled with the node's credentials.
func (c *accessChecker) matchSecrets(ctx context.Context, t *task, held records.Access, check *AccessCheck) accessAnswer {
	found := accessAnswer{why: "none of the Pod's secrets has pulled the image before"}
	mirror := "" // the image's name at the mirror that the credentials are for; "" for the registry
	compare := func(cred credentials.Credential, err error) bool {
		switch {
		case err != nil:
			return true // the error is reported when the registry is asked
		case cred.Origin.ServiceAccount != (credentials.ServiceAccount{}):
			return true // the credential is not from a Secret; match has compared its account
		}
		for _, s := range held.Secrets {
			same, equal := s.SameObject(secretID(cred, mirror)), s.Matches(cred)
			switch {
			case s.Mirror != mirror:
				continue
			case same && (equal || !held.Full()): // as in the kubelet, a full record learns no new content
				found = accessAnswer{granted: true, why: "the same Secret has pulled the image before"}
			case equal:
				found = accessAnswer{granted: true, why: "a Secret with the same content has pulled the image before"}
			default:
				continue
			}
			check.Matched = objectText(cred.Origin.Namespace, cred.Origin.Name, cred.Origin.UID)
			if same != equal {
				found.renewal = c.renewal(held, cred, mirror)
			}
			return false
		}
		return true
	}
	t.candidates.podCandidates(ctx, t.ref, compare)
	if mirrors := c.config.mirrorKeys(ctx, t); mirrors != nil && !found.granted {
		for _, name := range mirrors.names { // the image may have been pulled with a credential for a mirror
			mirror = name.Name()
			mirrors.ofPod(ctx, name, compare)
		}
	}
	return found
}

// renewal returns what the record should learn: another Secret of the same content, or the
// same Secret's new content. It returns nil if the record has the Secret with this content
// already. A full record learns nothing: for it renewal returns nil too.
func (c *accessChecker) renewal(held records.Access, cred credentials.Credential, mirror string) *records.SecretID {
	if c.reader != nil {
		return nil
	}
	s := records.NewSecretID(cred)
	s.Mirror = mirror
	if held.Full() || slices.ContainsFunc(held.Secrets, func(old records.SecretID) bool {
		return old.SameObject(s) && old.Matches(cred)
	}) {
		return nil
	}
	return &s
}

// renew writes found.access.renewal into the record of the image.
func (c *accessChecker) renew(ctx context.Context, t *task, found storeAnswer) {
	err := within(ctx, func() error {
		return c.config.Records.Grant(ctx, c.recordID(t, found.image), c.name(t), records.Access{Secrets: []records.SecretID{*found.access.renewal}})
	})
	if err != nil {
		c.config.Logger.Warn("the record of an image could not be renewed", "image", t.ref.String(), "err", err)
	}
}

// secretID returns the ID of the Secret that cred is from, for the registry or for a mirror,
// without a hash.
func secretID(cred credentials.Credential, mirror string) records.SecretID {
	return records.SecretID{Namespace: cred.Origin.Namespace, Name: cred.Origin.Name, UID: cred.Origin.UID, Mirror: mirror}
}

// accountOf returns the Pod's service account, which is in the Pod's namespace.
func accountOf(pod credentials.Pod) credentials.ServiceAccount {
	account := pod.ServiceAccount
	if account.Namespace == "" {
		account.Namespace = pod.Namespace
	}
	return account
}

// within calls fn and returns its error. fn may ignore the end of its context: within then
// returns the cause of the end of ctx soon after that end, and without fn.
func within(ctx context.Context, fn func() error) error {
	err, ok := await.Call(ctx, fn)
	if !ok {
		return context.Cause(ctx)
	}
	return err
}

// accessBy returns which Pods may use an image that was pulled with the candidate c.
func accessBy(c candidate) records.Access {
	account := c.cred.Origin.ServiceAccount
	switch {
	case c.unconfirmed:
		return records.Access{}
	case c.cred.Anonymous():
		return records.Access{Everybody: true}
	case account != (credentials.ServiceAccount{}):
		return records.Access{ServiceAccounts: []credentials.ServiceAccount{account}}
	case c.ofPod:
		s := records.NewSecretID(c.cred)
		s.Mirror = c.mirror
		return records.Access{Secrets: []records.SecretID{s}}
	}
	return records.Access{Everybody: true}
}

// name returns the name under which access to the image is recorded.
func (c *accessChecker) name(t *task) string {
	if c.config.Kubelet.NameAsWritten || c.reader != nil {
		if name, err := reference.Trim(t.image); err == nil {
			return name
		}
	}
	return t.ref.Name()
}

// grant adds access to the image's record. The record of the default handler gets the name
// too, without access. A Runtime can have one store for all handlers, as containerd has.
// Without that name, an image that was pulled for one handler would look preloaded to the
// Pods of another handler.
func (c *accessChecker) grant(ctx context.Context, t *task, img Image, access records.Access) error {
	id := c.recordID(t, img)
	if id != img.id() {
		if err := c.config.Records.Grant(ctx, img.id(), c.name(t), records.Access{}); err != nil {
			return err
		}
	}
	return c.config.Records.Grant(ctx, id, c.name(t), access)
}

// recordID returns the ID of the image's record. Images of one ID that are kept for
// different runtime handlers have different records.
func (c *accessChecker) recordID(t *task, img Image) string {
	if t.handler == "" || c.reader != nil { // the kubelet's record is for all handlers
		return img.id()
	}
	return img.id() + " " + t.handler
}

// id returns the ID under which the image's record is kept.
func (i Image) id() string {
	if i.ID != "" {
		return i.ID
	}
	return i.Digest.String()
}
