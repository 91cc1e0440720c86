package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/reference"
)

// A Reason says why an image is kept or removed.
type Reason string

// The reasons. ReasonAge and ReasonSpace are spelled as the label "reason" of the kubelet's
// metric image_garbage_collected_total.
const (
	ReasonInUse   Reason = "in use"  // kept: Config.InUse has it
	ReasonPinned  Reason = "pinned"  // kept: the store or Config.Pinned pins it
	ReasonForeign Reason = "foreign" // kept: another program gave it a name; see Image.Foreign
	ReasonYoung   Reason = "young"   // kept: it came into the store or was used less than Config.MinAge ago
	ReasonAge     Reason = "age"     // removed: it was not used for Config.MaxAge
	ReasonSpace   Reason = "space"   // removed if space is needed
)

// A Verdict says whether one image is kept or removed, and why.
type Verdict struct {
	Image  Image  `json:"image"`
	Reason Reason `json:"reason"`
	// Place is the image's place in the order of removal, from 1; 0 if the image is kept.
	Place int `json:"place,omitempty"`
	// FirstSeen is when a round or a pull first saw the image. LastUsed is when the image was
	// last seen in use; zero if it was never used.
	FirstSeen time.Time `json:"firstSeen"`
	LastUsed  time.Time `json:"lastUsed,omitzero"`
	// Until is when a young image will be old enough to be removed; zero for other images.
	Until time.Time `json:"until,omitzero"`
}

// String returns the verdict in one line.
func (v Verdict) String() string {
	what := map[Reason]string{
		ReasonInUse:   "kept, because it is in use",
		ReasonPinned:  "kept, because it is pinned",
		ReasonForeign: "kept, because another program gave it a name that no pull writes",
		ReasonYoung:   "kept until " + stamp(v.Until) + ", because it came or was used a short time ago",
		ReasonAge:     fmt.Sprintf("number %d: removed in the next round, because it was not used for the maximum age", v.Place),
		ReasonSpace:   fmt.Sprintf("number %d: removed when space is needed", v.Place),
	}[v.Reason]
	if v.LastUsed.IsZero() {
		return fmt.Sprintf("%s: %s (never used, first seen %s)", nameOf(v.Image), what, stamp(v.FirstSeen))
	}
	return fmt.Sprintf("%s: %s (last used %s)", nameOf(v.Image), what, stamp(v.LastUsed))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// An Explanation says what the next round would do.
type Explanation struct {
	Usage Usage `json:"usage"`
	// ToFree is how many bytes the next round has to free; 0 if less than Config.High percent
	// are used. It is not known in advance how many images must be removed for that, because
	// images share content.
	ToFree int64 `json:"toFree,omitempty"`
	// Images are all images that the store lists: first those that may be removed, in the
	// order of removal, and then those that are kept. An image that is in use or young and has
	// lost its names is kept and not listed.
	Images []Verdict `json:"images"`
}

// Explain returns what the next round would do with each image that the store lists, and
// why. It changes nothing, and does not wait for a round that runs. An image that no round
// has seen counts as first seen now.
func (c *Collector) Explain(ctx context.Context) (Explanation, error) {
	e, err := c.explain(ctx)
	if err != nil {
		return Explanation{}, fmt.Errorf("gc: %w", err)
	}
	return e, nil
}

func (c *Collector) explain(ctx context.Context) (Explanation, error) {
	now := c.config.Now()
	images, used, err := c.look(ctx)
	if err != nil {
		return Explanation{}, err
	}
	records, err := c.remembered(now)
	if err != nil {
		return Explanation{}, err
	}
	known := func(image Image) record {
		rec := recordOf(records, image)
		if rec.first.IsZero() {
			rec.first = now
		}
		if used.has(image) {
			rec.used = now
		}
		return rec
	}
	queue, kept := c.rank(images, used, known, now)
	usage, toFree, _, err := c.toFree(ctx)
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{Usage: usage, ToFree: max(toFree, 0)}
	var later []candidate
	for _, image := range queue {
		if c.expired(image.rec, now) {
			e.add(image, ReasonAge, time.Time{})
		} else {
			later = append(later, image)
		}
	}
	for _, image := range later {
		if young, until := c.young(image.rec, now); young {
			image.reason, image.until = ReasonYoung, until
			kept = append(kept, image)
			continue
		}
		e.add(image, ReasonSpace, time.Time{})
	}
	for _, image := range kept {
		e.add(image, image.reason, image.until)
	}
	return e, nil
}

// remembered returns the records of the state file, merged with news; without a state
// file, all records in memory.
func (c *Collector) remembered(now time.Time) (map[string]record, error) {
	saved := make(map[string]record)
	if c.state != nil && c.state.exists() {
		fsys, err := c.state.open()
		if err != nil {
			return nil, fmt.Errorf("the state directory %q: %w", c.state.dir, err)
		}
		defer fsys.Close()
		if saved, err = c.state.read(fsys, now); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == nil {
		return maps.Clone(c.records), nil
	}
	for id, rec := range c.news {
		saved[id] = saved[id].merge(rec)
	}
	return saved, nil
}

func (e *Explanation) add(image candidate, reason Reason, until time.Time) {
	v := Verdict{Image: image.Image, Reason: reason, FirstSeen: image.rec.first, LastUsed: image.rec.used, Until: until}
	if reason == ReasonAge || reason == ReasonSpace {
		v.Place = len(e.Images) + 1
	}
	e.Images = append(e.Images, v)
}

// A candidate is an image that may be removed, or that is kept for a reason.
type candidate struct {
	Image
	rec    record
	reason Reason // why it is kept
	until  time.Time
}

// rank returns the images that may be removed, in the order of removal, and the images
// that are kept whatever their age.
func (c *Collector) rank(images []Image, used usedImages, known func(Image) record, now time.Time) (queue, kept []candidate) {
	for _, image := range images {
		i := candidate{Image: image, rec: known(image)}
		switch {
		case used.has(image):
			i.reason = ReasonInUse
		case image.Pinned, c.config.Pinned != nil && c.config.Pinned(image):
			i.reason = ReasonPinned
		case image.Foreign:
			i.reason = ReasonForeign
		default:
			queue = append(queue, i)
			continue
		}
		kept = append(kept, i)
	}
	slices.SortFunc(queue, func(a, b candidate) int {
		first, second := a.rec.last(), b.rec.last()
		if c.config.AsKubelet {
			first, second = a.rec.used, b.rec.used
		}
		return cmp.Or(first.Compare(second), a.rec.first.Compare(b.rec.first), cmp.Compare(a.ID, b.ID))
	})
	return queue, kept
}

// expired reports whether an image was not used for longer than Config.MaxAge.
//
// In the kubelet an image that was never used is infinitely old, whatever its minimum age.
// Because the kubelet knows no last use from before it started, it removes no image for its
// age before it has run for longer than the maximum age.
func (c *Collector) expired(rec record, now time.Time) bool {
	if c.config.MaxAge == 0 {
		return false
	}
	if c.config.AsKubelet {
		return now.Sub(c.started) > c.config.MaxAge && now.Sub(rec.used) > c.config.MaxAge
	}
	young, _ := c.young(rec, now)
	return now.Sub(rec.last()) > c.config.MaxAge && !young
}

// young reports whether an image is too young to be removed for space, and until when. now
// is when the round started. An image that was used since then is young whatever
// Config.MinAge is. The kubelet counts the age from when it first saw the image, and not
// from its last use.
func (c *Collector) young(rec record, now time.Time) (young bool, until time.Time) {
	from := rec.last()
	if c.config.AsKubelet {
		from = rec.first
	}
	return now.Sub(from) < c.config.MinAge || !rec.used.Before(now), from.Add(c.config.MinAge)
}

// usedImages are the IDs and names that Config.InUse has yielded.
type usedImages map[string]bool

// look lists the images, and then asks which of them are in use.
func (c *Collector) look(ctx context.Context) ([]Image, usedImages, error) {
	images, err := c.config.Images.List(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("list the images: %w", err)
	}
	used := make(usedImages)
	if c.config.InUse == nil {
		return images, used, nil
	}
	seq := c.config.InUse(ctx)
	if seq == nil {
		return nil, nil, errors.New("Config.InUse returned nil, so it is not known which images are in use; it must return an empty sequence if no image is in use")
	}
	for name, err := range seq {
		if err != nil {
			return nil, nil, fmt.Errorf("it is not known which images are in use: %w", err)
		}
		used[name] = true
		if ref, err := reference.Parse(name); err == nil {
			used[ref.String()] = true
			if d := ref.Digest(); d != "" {
				used[ref.Name()+"@"+string(d)] = true
			}
		}
	}
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("it is not known which images are in use: %w", context.Cause(ctx))
	}
	return images, used, nil
}

// has reports whether Config.InUse has yielded any of the IDs and names of an image.
func (u usedImages) has(image Image) bool {
	return u[image.ID] && image.ID != "" || slices.ContainsFunc(image.Parts, u.hasName) ||
		slices.ContainsFunc(image.Names, u.hasName) || slices.ContainsFunc(image.aliases, u.hasName)
}

// digests returns all digests of u, of which those of manifests and indexes lead to content
// that is in use, also if no name in the store leads to it.
func (u usedImages) digests() []digest.Digest {
	found := make(map[digest.Digest]bool)
	for name := range u {
		d := digest.Digest(name[strings.LastIndexByte(name, '@')+1:])
		if verify.Digest(d) == nil {
			found[d] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func (u usedImages) hasName(name string) bool { return u[name] && name != "" }
