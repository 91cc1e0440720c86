package puller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/records"
)

// recordTime is how long one write of Records may take. Without this limit, a file system
// that hangs would hold the slot of a pull for ever.
const recordTime = 30 * time.Second

// errRecordTime is the error of a write that takes longer than recordTime.
var errRecordTime = fmt.Errorf("the records did not answer within %v", recordTime)

// A pullNote is the note about one pull. It is in the records while the pull runs. A
// Puller without Records has a nil pullNote, which does nothing.
type pullNote struct {
	checker  *accessChecker
	task     *task
	end      func()
	takeBack func() error
}

// begin writes the note of a pull before the pull starts.
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

// close removes the pull from the running pulls. If settle was not called, because a
// callback panicked, the note stays in the records, so that Pods need proof for the image.
func (n *pullNote) close() {
	if n != nil {
		n.end()
	}
}

// settle writes the result of the pull into the records, and then takes back the note. It
// does so even if all callers have left, because the image is in the store. If the result
// cannot be written, the note stays.
func (n *pullNote) settle(ctx context.Context, r pullResult) error {
	if n == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), recordTime, errRecordTime)
	defer cancel()
	return within(ctx, func() error {
		if r.err == nil {
			access := accessBy(r.accepted)
			if r.accepted.cred.Anonymous() {
				access.Public = r.image.Public
			}
			if err := n.checker.grant(ctx, n.task, r.image, access); err != nil {
				return err
			}
		}
		return n.takeBack()
	})
}

// intent returns the text of the note for a pull: the name of the image, the platform and
// the runtime handler. The store may hold the image for several platforms and handlers.
func (c *accessChecker) intent(t *task) string {
	name := t.ref.String()
	if c.config.Kubelet.NameAsWritten {
		name = t.written
	}
	name += " " + index.FormatPlatform(t.platform)
	if t.handler != "" {
		name += " " + t.handler
	}
	return name
}

// intended reports whether the records have the note of a pull of the image, for any
// runtime handler. A store can find an image by its digest although the image was pulled
// by a tag. So if the task's name has a digest, the notes of all pulls of the repository
// count.
func (c *accessChecker) intended(ctx context.Context, t *task) (bool, error) {
	if c.reader != nil {
		return c.reader.Intended(ctx, t.image)
	}
	want := withoutHandler(c.intent(t))
	for intent, err := range c.config.Records.Intents(ctx) {
		if err != nil || withoutHandler(intent) == want || t.ref.Digest() != "" && c.repositoryOf(intent) == t.ref.Name() {
			return err == nil, err
		}
	}
	return false, nil
}

// withoutHandler returns the text of a note without the runtime handler.
func withoutHandler(intent string) string {
	image, rest, _ := strings.Cut(intent, " ")
	platform, _, _ := strings.Cut(rest, " ")
	return image + " " + platform
}

// repositoryOf returns the name in a note, without tag and digest; "" if the note has no
// name.
func (c *accessChecker) repositoryOf(intent string) string {
	image, _, _ := strings.Cut(intent, " ")
	ref, err := c.config.Parser.Parse(image)
	if err != nil {
		return ""
	}
	return ref.Name()
}

// adopt makes records of the images that were stored by pulls which a crash then ended. It
// does so once. These records grant access to no Pod, because it is not known with which
// credential the images came. Without these records, another tag of the same image would
// look preloaded.
func (c *accessChecker) adopt(ctx context.Context) error {
	if c.reader != nil || c.adopted.Load() { // the program that writes the records adopts them
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

func (c *accessChecker) adoptOne(ctx context.Context, intent string) error {
	image, text, _ := strings.Cut(intent, " ")
	text, handler, _ := strings.Cut(text, " ")
	platform, err := index.ParsePlatform(text)
	if err != nil {
		platform = ocispec.Platform{} // the Puller's own
	}
	t, unusable := newTask(Request{Image: image, Platform: platform, RuntimeHandler: handler}, c.config, 0)
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
	return c.grant(ctx, t, img, records.Access{})
}

// A listing is one pass over the notes in the records. own has the intents of those pulls
// of this Puller that ran at any time after the pass started. These pulls take back their
// notes themselves.
type listing struct{ own map[string]bool }

// leftIntents lists the notes that no running pull of this Puller takes back.
func (c *accessChecker) leftIntents(ctx context.Context) ([]string, error) {
	l := c.beginListing()
	defer c.endListing(l)
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

func (c *accessChecker) beginListing() *listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := &listing{own: map[string]bool{}}
	for intent := range c.intents {
		l.own[intent] = true
	}
	c.listings[l] = struct{}{}
	return l
}

func (c *accessChecker) endListing(l *listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.listings, l)
}

// count adds a pull to the running pulls. The returned function removes it.
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

// sweep is Puller.Sweep.
func (c *accessChecker) sweep(ctx context.Context, before time.Time, stored func(id string) bool) error {
	if c.reader != nil {
		return c.reader.Sweep(ctx, before, stored)
	}
	if err := c.adoptAll(ctx); err != nil {
		return err
	}
	return c.config.Records.Sweep(ctx, before, func(id string) bool {
		id, _, _ = strings.Cut(id, " ") // behind it is a runtime handler
		return stored(id)
	})
}
