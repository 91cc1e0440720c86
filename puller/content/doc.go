// Package content is the contract between the parts of the built-in transfer: what a
// registry client must provide ([Source]), what a store must provide ([Store], [Ingest]),
// and the reasons in the errors of both.
//
// The one call most users need tests an error for its reason:
//
//	if errors.Is(err, content.ErrDigestMismatch) {
//		log.Print("the bytes do not have the digest: ", err)
//	}
//
// Implement Source or Store to use a registry or a store of another kind. Package
// pullertest has tests for your implementation. A store that can only append, or that
// verifies what it stores, says so by [OrderedIngest] and [VerifyingIngest]. A store with a
// garbage collection implements [Holder].
//
// # Reasons
//
// The comments of Source and Store say what their methods must do. This table lists the
// reasons. The scenario column has the name of the reason in the test scenarios for hostile
// and faulty registries and, in parentheses, its name in the blob vectors if that differs.
// The status column has the reason in a container's status that package puller reports for
// it. The last column says whether a pull tries the next credential. After an error with a
// RetryAfter it tries none, with any reason.
//
//	Go                   scenario                       status                     next
//	ErrDigestMismatch    digest_mismatch                ErrImagePull               no
//	                     (DigestMismatch)
//	ErrSizeMismatch      size_mismatch (SizeMismatch)   ErrImagePull               no
//	ErrTooLarge          too_large                      ErrImagePull               no
//	ErrTooDeep           too_deep                       ErrImagePull               no
//	ErrBadManifest       bad_manifest                   ErrImagePull               no
//	ErrBadIndex          bad_index                      ErrImagePull               no
//	ErrBadDigest         bad_digest                     ErrImagePull               no
//	ErrBadReference      bad_reference                  ErrImagePull               no
//	ErrMediaType         media_type                     ErrImagePull               no
//	ErrNoPlatform        no_platform                    ErrImagePull               no
//	ErrNotFound          not_found (NotFound)           ErrImagePull               yes
//	ErrUnauthorized      unauthorized (Unauthorized)    ErrImagePull               yes
//	ErrDenied            denied                         ErrImagePull               yes
//	ErrRateLimited       rate_limited (RateLimited)     ErrImagePull               no
//	ErrUnavailable       unavailable                    RegistryUnavailable        yes
//	ErrForbiddenURL      forbidden_url                  ErrImagePull               no
//	ErrRedirect          redirect                       ErrImagePull               no
//	ErrRange             range                          ErrImagePull               no
//	ErrContentEncoding   content_encoding               ErrImagePull               no
//	ErrTLS               tls                            ErrImagePull               no
//	ErrNetwork           network                        RegistryUnavailable        no
//	ErrTimeout           timeout                        RegistryUnavailable        no
//	ErrStatus            unexpected_status              ErrImagePull               no
//	ErrStore             store (DiskFull)               ErrImagePull               no
//	ErrRefused           (none: an admission check)     SignatureValidationFailed  no
//	ErrCheckFailed       (none: an admission check)     ErrImagePull               no
//	ErrConfig            (none: a hosts.toml)           ErrImagePull               no
//
// ErrNotFound also matches fs.ErrNotExist. ErrUnauthorized and ErrDenied also match
// fs.ErrPermission. A caller whose context has ended (Canceled in the vectors) gets the
// error of the context, which has no Reason. The error for a full disk, or for a quota that
// is used up, matches ErrStore, ErrNoSpace and, on systems that have it, syscall.ENOSPC. A
// name that cannot be parsed does not reach a Source, because package puller refuses it
// with InvalidImageName.
//
// # Left out
//
// This package does no I/O. Package registry has a Source, and package layout has a Store.
// Package transfer copies from a Source into a Store; most programs need only package
// transfer.
package content
