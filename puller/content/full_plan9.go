package content

// fullNumbers is empty: errors of Plan 9 are texts of the file server.
var fullNumbers []error
