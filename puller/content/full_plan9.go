package content

// fullNumbers is empty, because errors of Plan 9 are texts of the file server.
var fullNumbers []error
