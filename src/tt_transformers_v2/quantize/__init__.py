# SPDX-License-Identifier: Apache-2.0
"""`task=quantize`: weights rounded to the card's block formats with regard to what a layer sees."""
