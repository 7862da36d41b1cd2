// Package alertcheck tests the alerting rules of deploy/prometheus with Prometheus' own
// evaluator. It is a module of its own, so that Posta does not depend on Prometheus.
package alertcheck
