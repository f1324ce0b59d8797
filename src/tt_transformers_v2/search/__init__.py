# SPDX-License-Identifier: Apache-2.0
"""The fastest configuration that keeps a model's quality, layer by layer: measured sensitivities, predicted speed."""
