package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
)

// hints says what the user can do after a failure, for each reason.
var hints = map[content.Reason]string{
	content.ErrNotFound:       "check the name and tag; some registries also give this answer if the credential may not see the image",
	content.ErrUnauthorized:   "give credentials for this image with -secret or -config",
	content.ErrDenied:         "the credentials are valid but may not read this image; give others with -secret or -config",
	content.ErrNoPlatform:     "choose another platform with -platform",
	content.ErrRateLimited:    "wait, or give credentials with a higher limit",
	content.ErrUnavailable:    "the registry is in trouble; try again later",
	content.ErrTLS:            "check the registry's certificate; set SSL_CERT_FILE to trust more authorities, or give -plain-http to use http",
	content.ErrNetwork:        "check the registry's name, the network and the proxy variables; the bytes that have arrived are kept",
	content.ErrTimeout:        "the registry or the network is too slow; the bytes that have arrived are kept, run again to continue",
	content.ErrStore:          "check the directory, its permissions and the free space; -o names another directory",
	content.ErrForbiddenURL:   "the registry named an address that the client must not connect to",
	content.ErrDigestMismatch: "the registry or a mirror sent wrong bytes, which were not stored",
	content.ErrSizeMismatch:   "the registry or a mirror sent wrong bytes, which were not stored",
}

// hint returns what the user can do about err, or "" if the text of err says it, or if there
// is no hint for err.
func hint(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted; the bytes that have arrived are kept, run again to continue"
	case errors.Is(err, puller.ErrInvalidImageName):
		return "" // the error of the parser says what to do
	case errors.Is(err, puller.ErrImageNeverPull):
		return "pull the image first, or use another -policy"
	}
	if refused(err) {
		return "the registry refused these credentials: check user name and password"
	}
	return hints[content.ReasonOf(err)]
}

// refused reports whether the registry answered 401 to a credential and gave no better
// answer to another one.
func refused(err error) bool {
	var all *credentials.AttemptsError
	if credentials.VerdictOf(err) != credentials.VerdictUnauthorized || !errors.As(err, &all) {
		return false
	}
	return slices.ContainsFunc(all.Attempts, func(a credentials.Attempt) bool {
		return !a.SourceFailed && a.Origin != credentials.Origin{} && errors.Is(a.Err, content.ErrUnauthorized)
	})
}

// oneLine returns err as one line for the user, with the hint and the time of the next try.
func oneLine(err error) string {
	text := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	if h := hint(err); h != "" {
		text += " (" + h + ")"
	}
	var perr *puller.Error
	var retry *puller.RetryError // its text already has the time of the next try
	if errors.As(err, &perr) && perr.RetryAfter > 0 && !errors.Is(err, puller.ErrImagePullBackOff) && !errors.As(err, &retry) {
		text += "; try again in " + perr.RetryAfter.Round(time.Second).String()
	}
	return text
}
