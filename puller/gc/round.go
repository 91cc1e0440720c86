package gc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
)

// A Report says what a round has done.
type Report struct {
	// Removed are the images that were removed, in this order.
	Removed []Removed `json:"removed,omitempty"`
	// Before and After say how full the file system was when the round began to free space,
	// and at its end. Before is zero if the round did not get that far, and After if nothing
	// was removed.
	Before Usage `json:"before,omitzero"`
	After  Usage `json:"after,omitzero"`
	// ToFree is how many bytes had to become free; 0 if less than Config.High was used.
	ToFree int64 `json:"toFree,omitempty"`
	// Freed is how many bytes became free, as the store counts them: those of Pruned and of
	// all Removed.
	Freed int64 `json:"freed,omitempty"`
	// Pruned is how many bytes of content were removed that no image led to.
	Pruned int64 `json:"pruned,omitempty"`
}

// Removed is an image that was removed.
type Removed struct {
	Image  Image  `json:"image"`
	Reason Reason `json:"reason"` // ReasonAge or ReasonSpace
	// Freed is how many bytes that freed, without content that other images use. AsKubelet
	// counts the Size of the image.
	Freed int64 `json:"freed"`
}

// ErrNotEnough says that a round could not free as much space as it had to. The file system
// is full of images that must stay, or of other files.
var ErrNotEnough = errors.New("the removal of unused images did not free enough space")

// Round is one round of garbage collection. It removes the images that are older than
// Config.MaxAge. Then, if Config.High percent of the file system are used or more, it
// removes images until only Config.Low percent are used: first those that were not used for
// the longest time. It never removes an image that is in use, pinned or young; see
// [Collector.Explain]. Call it every few minutes; the kubelet does every 5 minutes.
//
// If images cannot be listed, if Config.InUse yields an error, or if the state file cannot be
// read, Round removes nothing and returns the error. If an image cannot be removed, Round
// goes on with the next one and returns the errors of all. The error wraps ErrNotEnough if
// too little space became free. The Report is valid also if there is an error.
//
// Round waits for a round that runs in this or another process, until ctx ends. When ctx
// ends later, Round stops before the next image.
func (c *Collector) Round(ctx context.Context) (Report, error) { return c.collect(ctx, false) }

// RemoveUnused removes all images that are not in use, pinned or young, however much space
// there is, as the kubelet does when its disk is under pressure. Otherwise it is as Round.
func (c *Collector) RemoveUnused(ctx context.Context) (Report, error) { return c.collect(ctx, true) }

func (c *Collector) collect(ctx context.Context, all bool) (Report, error) {
	r := &round{Collector: c, all: all}
	if err := r.locked(ctx); err != nil {
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

	looked bool              // the images and those in use are known
	gone   bool              // images were removed, or were found to be gone
	swept  bool              // the kubelet would sweep now
	saved  map[string]record // what the state file has
}

// locked runs the round while no other one runs.
func (r *round) locked(ctx context.Context) error {
	unlock, err := r.rounds.Lock(ctx, "")
	if err != nil {
		return err
	}
	defer unlock()
	if r.state == nil {
		return r.andSweep(ctx, r.run(ctx))
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
	return r.andSweep(ctx, errors.Join(err, r.save(fsys)))
}

// save writes the state file. If it was written within the last minute, it is written again
// at once only if images are gone. Otherwise a process that is killed could leave the last
// use of an image that another program then pulls again, and which would look old.
func (r *round) save(fsys disk.FS) error {
	if !r.looked {
		return nil
	}
	r.mu.Lock()
	maps.DeleteFunc(r.saved, func(id string, _ record) bool { _, ok := r.records[id]; return !ok })
	since := r.config.Now().Sub(r.written)
	early := !r.written.IsZero() && since >= 0 && since < writeEvery
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

// andSweep sweeps the records after a round whose error is err.
func (r *round) andSweep(ctx context.Context, err error) error {
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

// measured notes how full the file system is after a round that has removed something.
func (r *round) measured(ctx context.Context, err error) error {
	if len(r.report.Removed) > 0 && !r.config.AsKubelet {
		if after, uerr := r.config.Usage(ctx); uerr == nil {
			r.report.After = after
		}
	}
	return err
}

// detect notes which images there are and which of them are in use, and forgets those that
// are gone.
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
		// An image that was pulled after the list was made is not in the list.
		if !present[id] && (r.config.AsKubelet || rec.last().Before(r.began)) {
			r.forget(id)
		}
	}
	r.looked = true
}

// forget removes what is known of an image that is gone. The caller holds mu.
func (r *round) forget(id string) {
	delete(r.records, id)
	delete(r.news, id)
	r.gone = true
}

// known returns the record of an image with that of its Parts.
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
			rec = r.known(image.Image) // it may have been used since the round began
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
		enough := fmt.Errorf("%w: %d%% of %s are used, and %s of %s to free became free: the rest is images that must stay, or other files",
			ErrNotEnough, usage.Percent(), size(usage.Capacity), size(freed), size(toFree))
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
		prune(context.Context) (int64, error)
	}); ok && !r.config.AsKubelet {
		pruned, err := p.prune(ctx)
		if err != nil {
			failed = append(failed, fmt.Errorf("content that no image leads to: %w", err))
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
		if freed >= toFree { // the kubelet removes one image also if nothing must become free
			break
		}
	}
	if failed != nil {
		return freed, fmt.Errorf("%s were to become free, and %s became free: %w", size(toFree), size(freed), errors.Join(failed...))
	}
	r.swept = true
	return freed, nil
}

// enough reports whether the file system itself says that enough is free. That is earlier
// than the store counts if the store frees more than it counts, such as unpacked layers, or
// if another program has freed space. It is later if the bytes become free only later, so
// what the store counts is enough too.
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
// changed since it was listed is kept: a pull or another program needs it.
func (r *round) remove(ctx context.Context, image candidate, reason Reason) (int64, error) {
	freed, err := r.config.Images.Remove(ctx, image.Image)
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

// maxName is how many bytes of an image's name or ID a text shows.
const maxName = 300

// nameOf returns the name of an image for texts.
func nameOf(image Image) string {
	if len(image.Names) > 0 {
		return redact.Quote(image.Names[0], maxName)
	}
	return redact.Quote(image.ID, maxName)
}

// size returns n bytes in a unit that people read.
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
