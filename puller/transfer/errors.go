package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
)

// seam makes of an error what a puller.Runtime may return: the kinds of package
// content stay in it, what they mean to a Puller is wrapped around them.
//
// Another credential is tried after not found, unauthorized and denied, since
// registries say each of these to strangers, and after answers of a broken
// registry, some of which fail so at a wrong password. Nothing else that can
// happen depends on the credential.
func seam(err error) error {
	if err == nil {
		return nil
	}
	kind := content.KindOf(err)
	switch kind {
	case content.ErrUnavailable, content.ErrNetwork, content.ErrTimeout:
		err = &reasonError{puller.ErrRegistryUnavailable, err}
	case content.ErrRefused:
		err = &reasonError{puller.ErrSignatureValidation, err}
	}
	var asked *content.Error
	if errors.As(err, &asked) && (kind == content.ErrRateLimited || asked.RetryAfter > 0) {
		return credentials.Stop(&puller.RetryError{After: asked.RetryAfter, Err: err})
	}
	switch kind {
	case content.ErrNotFound, content.ErrUnauthorized, content.ErrDenied, content.ErrUnavailable:
		return err
	}
	return credentials.Stop(err)
}

// A reasonError adds a reason of the kubelet to an error and changes no text.
type reasonError struct {
	reason puller.Reason
	err    error
}

func (e *reasonError) Error() string   { return e.err.Error() }
func (e *reasonError) Unwrap() []error { return []error{e.err, e.reason} }

// masked takes the credential's secrets, and the tokens had for it, out of an
// error's text: a registry may repeat them in a manifest, whose faults the error
// quotes.
func (r *Runtime) masked(err error, cred credentials.Credential) error {
	said := err.Error()
	text := redact.Secrets(said, cred.Password.Reveal(), cred.IdentityToken.Reveal(), cred.RegistryToken.Reveal())
	if m, ok := r.source.(content.Masker); ok {
		text = m.Mask(cred, text)
	}
	if text == said {
		return err
	}
	return &maskedError{text, err}
}

type maskedError struct {
	text string
	err  error
}

func (e *maskedError) Error() string { return e.text }
func (e *maskedError) Unwrap() error { return e.err }

// storeError says that the Store failed, and at what, unless a call that was given
// a context ended with that.
func storeError(doing string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return ioError(doing, err)
}

// ioError is storeError for calls without a context: a deadline is the Store's own.
func ioError(doing string, err error) error {
	if content.KindOf(err) == content.ErrStore {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return &content.Error{Kind: content.ErrStore, Err: fmt.Errorf("%s: %w", doing, err)}
}

// failf is an error of a kind, in the words of fmt.Errorf.
func failf(kind content.Kind, format string, args ...any) error {
	return &content.Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// full reports whether err, of whatever Store, says that the disk is full or that a
// quota is used up.
func full(err error) bool { return errors.Is(ioError("write", err), content.ErrNoSpace) }

// absent reports whether the Store just does not have it.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
