package credentials

import (
	"context"
	"iter"

	"github.com/pullkit/pullkit/reference"
)

// A Keyring knows credentials for image names. Its method may be called
// concurrently.
type Keyring interface {
	// Lookup yields the candidates for ref in the order to try them. A yielded
	// error means that one source could not answer; the sequence goes on after
	// it. No lock is held while yield runs, and breaking off stops later
	// sources from being asked.
	Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error]
}

// A Fingerprinter is a Keyring that can say cheaply whether its candidates for
// an image have changed. Optional.
type Fingerprinter interface {
	// Fingerprint hashes the candidates for ref with a seed of the process, so
	// that it tells nothing about them. It does no I/O: helpers and plugins add
	// their configuration only, not what they would answer.
	Fingerprint(ref reference.Reference) uint64
}

// An Explainer is a Keyring that can say which of its entries match an image
// and why the others do not. Optional.
type Explainer interface {
	// Explain yields a note for each entry, in the order in which Lookup would
	// come to it, and may yield notes for what was brought and is not an entry, such
	// as a Secret that holds none. It starts no program.
	Explain(ref reference.Reference) iter.Seq[Note]
}

// A Note is what an Explainer says of one entry, or of a source without entries.
type Note struct {
	Origin   Origin
	Username string // "" for a helper or plugin, which was not asked
	Matched  bool
	Why      string // for people: why it matched or not, or that it was not run
	// Print is equal for matching entries that hold the same credential, and tells
	// nothing else: it is a hash with a seed of the process. 0 for a helper or
	// plugin, which was not asked.
	Print uint64
	// Err is set if the note is about something that looks wrong, and that may be
	// why the image has no good credential: an [*EntryError], which wraps a [Warning]
	// unless the entry or its source is malformed. Nil for all other notes.
	Err error
}
