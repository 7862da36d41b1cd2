// Package alertcheck tests the alerting rules of deploy/prometheus with Prometheus' own
// evaluator. It is a module of its own, so that Prometheus is no dependency of Posta.
package alertcheck
