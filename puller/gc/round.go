package gc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

// A Report says what a round has done.
type Report struct {
	// Removed are the images that were removed, in this order.
	Removed []Removed `json:"removed,omitempty"`
	// Before says how full the file system was when the round checked the thresholds; zero if
	// the round ended earlier. After says how full it was at the end of the round; zero if no
	// image was removed.
	Before Usage `json:"before,omitzero"`
	After  Usage `json:"after,omitzero"`
	// ToFree is how many bytes had to become free; 0 if less than Config.High percent were
	// used.
	ToFree int64 `json:"toFree,omitempty"`
	// Freed is how many bytes became free, as the store counts them: the sum of Pruned and of
	// the Freed of all Removed.
	Freed int64 `json:"freed,omitempty"`
	// Pruned is how many bytes of content were removed to which neither a name nor a digest in
	// use led.
	Pruned int64 `json:"pruned,omitempty"`
}

// Removed is an image that was removed.
type Removed struct {
	Image  Image  `json:"image"`
	Reason Reason `json:"reason"` // ReasonAge or ReasonSpace
	// Freed is how many bytes became free, without content that other images use. Under
	// AsKubelet it is the Size of the image.
	Freed int64 `json:"freed"`
}

// ErrNotEnough says that a round could not free enough space: the images that it may
// remove take up too little. The rest of the file system is images that must stay, or
// other files.
var ErrNotEnough = errors.New("the removal of unused images did not free enough space")

// Round is one round of garbage collection. It removes the images that are older than
// Config.MaxAge. Then, if Config.High percent of the file system are used or more, it
// removes images until only Config.Low percent are used: first those that were not used
// for the longest time. It never removes an image that is in use, pinned, foreign or
// young; see [Reason]. Call Round every few minutes. The kubelet collects every 5 minutes.
//
// If images cannot be listed, if Config.InUse yields an error, or if the state file cannot be
// read, Round removes nothing and returns the error. If the manifest of a digest in use is
// damaged, no image can be removed. If an image cannot be removed, Round goes on with the next
// image, and returns all errors joined. The error wraps ErrNotEnough if too little space became
// free. The Report is valid also if Round returns an error.
//
// If a round runs in this or another process, Round waits for its end, or until ctx ends.
// If ctx ends during the round, Round stops before it removes the next image.
func (c *Collector) Round(ctx context.Context) (Report, error) { return c.collect(ctx, false) }

// RemoveUnused removes all images that are not in use, pinned, foreign or young, even if
// the file system has enough space. The kubelet does this when its disk is under pressure.
// In all other points it is as Round.
func (c *Collector) RemoveUnused(ctx context.Context) (Report, error) { return c.collect(ctx, true) }

func (c *Collector) collect(ctx context.Context, all bool) (Report, error) {
	r := &round{Collector: c, all: all}
	if err := r.runLocked(ctx); err != nil {
		return r.report, fmt.Errorf("gc: %w", err)
	}
	return r.report, nil
}

// A round is one call of Round or RemoveUnused.
type round struct {
	*Collector
	all    bool
	began  time.Time
	report Report

	looked bool              // the images were listed, and it is known which of them are in use
	keep   []digest.Digest   // the digests of what is in use, and of young images that have lost their names
	gone   bool              // images were removed, or were found to be gone
	swept  bool              // the kubelet would sweep now
	saved  map[string]record // what the state file has
}

// runLocked runs the round under the locks that let one round run at a time.
func (r *round) runLocked(ctx context.Context) error {
	unlock, err := r.rounds.Lock(ctx, "")
	if err != nil {
		return err
	}
	defer unlock()
	if r.state == nil {
		return r.sweepAfter(ctx, r.run(ctx))
	}
	fsys, unlockState, err := r.state.lock(ctx)
	if err != nil {
		return err
	}
	defer unlockState()
	if r.saved, err = r.state.read(fsys, r.config.Now()); err != nil {
		return err
	}
	r.mu.Lock()
	r.records = maps.Clone(r.saved)
	for id, rec := range r.news {
		r.records[id] = r.records[id].merge(rec)
	}
	r.mu.Unlock()
	err = r.run(ctx)
	return r.sweepAfter(ctx, errors.Join(err, r.save(fsys)))
}

// save writes the state file. If the file was written within the last minute, save writes
// it again only if images are gone. Without that write, a process that is killed could
// leave the old last use of a removed image in the file. If another program then pulls
// that image again, the image would look old.
func (r *round) save(fsys disk.FS) error {
	if !r.looked {
		return nil
	}
	r.mu.Lock()
	maps.DeleteFunc(r.saved, func(id string, _ record) bool { _, ok := r.records[id]; return !ok })
	since := r.config.Now().Sub(r.written)
	early := !r.written.IsZero() && since >= 0 && since < writeEvery && !r.closed // after Close there is no later write
	nothing := len(r.news) == 0
	if early && !r.gone {
		r.writeSoon()
	}
	r.mu.Unlock()
	if nothing && !r.gone || early && !r.gone {
		return nil
	}
	return r.write(fsys, r.saved)
}

// sweepAfter calls Config.Sweep after a round, if it is due. It returns err, the error of
// the round, joined with its own errors.
func (r *round) sweepAfter(ctx context.Context, err error) error {
	due := r.gone
	if r.config.AsKubelet {
		due = r.swept
	}
	if r.config.Sweep == nil || !due {
		return err
	}
	before := r.config.Now()
	images, listErr := r.config.Images.List(ctx)
	if listErr != nil {
		return errors.Join(err, fmt.Errorf("the records were not swept: %w", listErr))
	}
	stored := make(map[string]bool, len(images))
	for _, image := range images {
		for _, id := range image.ids() {
			stored[id] = true
		}
	}
	if sweepErr := r.config.Sweep(ctx, before, func(id string) bool { return stored[id] }); sweepErr != nil {
		err = errors.Join(err, fmt.Errorf("sweep the records: %w", sweepErr))
	}
	return err
}

func (r *round) run(ctx context.Context) error {
	r.began = r.config.Now()
	images, used, err := r.look(ctx)
	if err != nil {
		return err
	}
	r.keep = used.digests()
	r.detect(images, used)
	queue, _ := r.rank(images, used, r.known, r.began)
	if r.all {
		_, err := r.freeSpace(ctx, math.MaxInt64, queue)
		return r.measured(ctx, err)
	}
	queue, failed := r.freeOld(ctx, queue)
	if failed != nil && (r.config.AsKubelet || ctx.Err() != nil) {
		return failed
	}
	return r.measured(ctx, errors.Join(failed, r.freeDown(ctx, queue)))
}

// measured notes how full the file system is at the end of a round that has removed
// images. It returns err.
func (r *round) measured(ctx context.Context, err error) error {
	if len(r.report.Removed) > 0 && !r.config.AsKubelet {
		if after, uerr := r.config.Usage(ctx); uerr == nil {
			r.report.After = after
		}
	}
	return err
}

// detect notes which images the store has and which of them are in use. It forgets the
// images that are gone.
func (r *round) detect(images []Image, used usedImages) {
	now := r.config.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	present := make(map[string]bool, len(images))
	for _, image := range images {
		for _, id := range image.ids() {
			present[id] = true
		}
		if r.records[image.ID].first.IsZero() {
			r.note(image.ID, record{first: r.began})
		}
		if used.has(image) {
			r.note(image.ID, record{first: r.began, used: now})
		}
	}
	for id, rec := range r.records {
		if present[id] {
			continue
		}
		// An image that was pulled after the list was made is missing from the list, and is not
		// gone. One that was used a short time ago can have lost its names since.
		young, _ := r.young(rec, r.began)
		if !r.config.AsKubelet && (young || !rec.last().Before(r.began)) {
			if d := digest.Digest(id); verify.Digest(d) == nil {
				r.keep = append(r.keep, d)
			}
			continue
		}
		r.forget(id)
	}
	r.looked = true
}

// forget removes the record of an image that is gone. The caller holds mu.
func (r *round) forget(id string) {
	delete(r.records, id)
	delete(r.news, id)
	r.gone = true
}

// known returns the record of an image, merged with the records of its Parts.
func (r *round) known(image Image) record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return recordOf(r.records, image)
}

func recordOf(records map[string]record, image Image) record {
	rec := records[image.ID]
	for _, id := range image.Parts {
		if part := records[id]; part.used.After(rec.used) {
			rec.used = part.used
		}
	}
	return rec
}

// freeOld removes the images of the queue that are older than Config.MaxAge, and returns the
// others.
func (r *round) freeOld(ctx context.Context, queue []candidate) (left []candidate, err error) {
	var failed []error
	for _, image := range queue {
		rec := image.rec
		if !r.config.AsKubelet {
			rec = r.known(image.Image) // the image may have been used since the round started
		}
		if !r.expired(rec, r.began) {
			left = append(left, image)
			continue
		}
		if ctx.Err() != nil {
			return nil, errors.Join(append(failed, context.Cause(ctx))...)
		}
		if _, err := r.remove(ctx, image, ReasonAge); err != nil {
			failed = append(failed, err)
			left = append(left, image)
		}
	}
	if failed != nil {
		return left, fmt.Errorf("images that were not used for %v: %w", r.config.MaxAge, errors.Join(failed...))
	}
	return left, nil
}

// freeDown frees space if Config.High percent are used or more.
func (r *round) freeDown(ctx context.Context, queue []candidate) error {
	usage, toFree, over, err := r.toFree(ctx)
	r.report.Before = usage
	if err != nil || !over {
		return err
	}
	r.report.ToFree = max(toFree, 0)
	freed, err := r.freeSpace(ctx, toFree, queue)
	if freed < toFree && ctx.Err() == nil && (err == nil && r.config.AsKubelet || !r.config.AsKubelet && !r.enough(ctx)) {
		enough := fmt.Errorf("%w: %d%% of %s were used, %s had to become free, and %s became free; the rest is images that must stay, or other files",
			ErrNotEnough, usage.Percent(), size(usage.Capacity), size(toFree), size(freed))
		return errors.Join(enough, err)
	}
	return err
}

// toFree returns how full the file system is, how many bytes must become free, and whether
// Config.High percent are used. Because of rounding the bytes can then be less than 1.
func (c *Collector) toFree(ctx context.Context) (usage Usage, toFree int64, over bool, err error) {
	if usage, err = c.config.Usage(ctx); err == nil {
		usage, err = usage.checked()
	}
	if err != nil || usage.Percent() < c.config.High {
		return usage, 0, false, err
	}
	return usage, usage.over(c.config.Low), true, nil
}

// freeSpace removes images of the queue, in its order, until toFree bytes are free, and
// returns how many became free.
func (r *round) freeSpace(ctx context.Context, toFree int64, queue []candidate) (freed int64, err error) {
	var failed []error
	if p, ok := r.config.Images.(interface {
		prune(context.Context, []digest.Digest) (int64, error)
	}); ok && !r.config.AsKubelet {
		pruned, err := p.prune(ctx, r.keep)
		if err != nil {
			failed = append(failed, fmt.Errorf("content that no image needs: %w", err))
		}
		r.report.Pruned, r.report.Freed, freed = pruned, r.report.Freed+pruned, pruned
	}
	for _, image := range queue {
		if !r.config.AsKubelet && (freed >= toFree || r.enough(ctx)) {
			break
		}
		if ctx.Err() != nil {
			failed = append(failed, context.Cause(ctx))
			break
		}
		if young, _ := r.young(r.known(image.Image), r.began); young {
			continue
		}
		n, err := r.remove(ctx, image, ReasonSpace)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		freed += n
		if freed >= toFree { // checked after a removal: the kubelet removes one image even if toFree is 0 or less
			break
		}
	}
	if failed != nil {
		return freed, fmt.Errorf("%s had to become free, and %s became free: %w", size(toFree), size(freed), errors.Join(failed...))
	}
	r.swept = true
	return freed, nil
}

// enough reports whether the file system itself says that enough is free. The file system
// can say so before the count of the store does, because a store can free more than it
// counts, such as unpacked layers, and because other programs free space too. It can also
// say so later, because some file systems free bytes with a delay. So a round stops as
// soon as one of the two is enough.
func (r *round) enough(ctx context.Context) bool {
	if r.all {
		return false
	}
	usage, err := r.config.Usage(ctx)
	if err == nil {
		usage, err = usage.checked()
	}
	return err == nil && usage.over(r.config.Low) <= 0
}

// remove removes an image and returns how many bytes count as free. An image that has
// changed since it was listed is kept, because a pull or another program needs it.
func (r *round) remove(ctx context.Context, image candidate, reason Reason) (int64, error) {
	freed, err := r.config.Images.Remove(ctx, image.Image, r.keep)
	if errors.Is(err, content.ErrChanged) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.note(image.ID, record{first: r.began, used: r.config.Now()})
		r.config.Logger.Debug("an image was not removed, because it changed", "image", image.ID)
		return 0, nil
	}
	if r.config.AsKubelet {
		freed = image.Size
	}
	if err != nil {
		return freed, fmt.Errorf("remove image %s: %w", nameOf(image.Image), err)
	}
	r.mu.Lock()
	for _, id := range image.ids() {
		r.forget(id)
	}
	r.mu.Unlock()
	r.config.Logger.Debug("an image was removed", "image", image.ID, "names", image.Names, "reason", reason, "freed", freed)
	r.report.Removed = append(r.report.Removed, Removed{Image: image.Image, Reason: reason, Freed: freed})
	r.report.Freed += freed
	return freed, nil
}

// maxName is how many bytes of an image's name or ID a text shows at most.
const maxName = 300

// nameOf returns the name of an image for texts.
func nameOf(image Image) string {
	if len(image.Names) > 0 {
		return redact.Quote(image.Names[0], maxName)
	}
	return redact.Quote(image.ID, maxName)
}

// size returns the text for n bytes, in a unit that fits the number.
func size(n int64) string {
	f, unit := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if math.Abs(f) < 1024 {
			break
		}
		f, unit = f/1024, next
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}
